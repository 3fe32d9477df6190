"""Looks beside the labeling whether a project's features can be improved, and has that tried. Knows no browser.

After each batch that was chosen, and when other work is over, a thread looks whether an improvement is due (see
annotator/improvements.py); its job runs and its result is put to use as an encoder's is (see swaps.py), never two at a
time for one project. What a dead process began is taken up again when the project is opened.
"""

from __future__ import annotations

import threading
from pathlib import Path

from annotator import improvements
from annotator.errors import AnnotatorError
from annotator.improvements import Begun, Trials
from annotator.project import Project
from annotator.workspace.swaps import EncoderSwaps, Json, Work, how


class Improvements:
    """The improvements of one process, tried by `swaps`."""

    def __init__(self, swaps: EncoderSwaps) -> None:
        self._swaps = swaps
        self._looking: set[Path] = set()
        self._last: dict[Path, tuple[str, int]] = {}
        """What was begun last in a project, and at how many labels: a full disk may have kept that from being noted."""
        self._lock = threading.Lock()

    def look(self, project: Project) -> None:
        """See in a thread whether an improvement is due, and begin with it; nothing to do while one looks."""
        with self._lock:
            if project.folder in self._looking:
                return
            self._looking.add(project.folder)
        threading.Thread(target=self._look, args=(project,), name="improvements", daemon=True).start()

    def resume(self, project: Project) -> None:
        """Go on with what was being tried when an earlier process stopped."""
        begun = improvements.left_unfinished(project)
        if begun is not None:
            self._begin(project, begun)

    def may_begin(self, project: Project) -> bool:
        """Whether anything may ever be tried: where a person chose the encoder, nothing is."""
        return project.config.encoder in improvements.FOR

    def trials(self, project: Project) -> Trials:
        """What is being tried in a project, and what was."""
        return Trials.read(project.folder)

    def _look(self, project: Project) -> None:
        try:
            if self._swaps.running(project) is not None:
                return
            begun = improvements.due(project)
            if begun is not None and self._last.get(project.folder) != (begun.name, begun.n_labels):
                self._begin(project, begun)
        except AnnotatorError:  # the store is in trouble, and says so where it is asked; the next batch looks again
            return
        finally:
            self._looking.discard(project.folder)

    def _begin(self, project: Project, begun: Begun) -> None:
        if self._swaps.start_unless_busy(project, self._work(project, begun)):
            self._last[project.folder] = begun.name, begun.n_labels

    def _work(self, project: Project, begun: Begun) -> Work:
        def done(result: Json) -> None:
            improvements.end(project, begun, result["said"], result["changes"] is not None)

        def failed(error: Exception) -> None:
            ended, why = how(error)
            message = f"Trying {begun.title} {ended}; the features of {project.config.features} are used.{why}"
            improvements.end(project, begun, message, is_applied=False)

        return Work(
            title=f"Trying the features of {begun.title}",
            target=begun.target,
            arguments=begun.arguments,
            changes=lambda result: result["changes"],
            begun=lambda: improvements.begin(project, begun),
            done=done,
            failed=failed,
            is_trial=True,
        )
