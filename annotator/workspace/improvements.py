"""Looks beside the labeling whether a project's features can be improved, and has that tried. Knows no browser.

After each batch that was chosen, and when other work is over, a thread looks whether an improvement is due (see
annotator/improvements.py); its job runs and its result is put to use as an encoder's is (see swaps.py), never two at a
time for one project. What a dead process began is taken up again when the project is opened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from annotator.errors import AnnotatorError
from annotator.exclusive import Exclusive
from annotator.improvements import Improving, Task, Trials, is_for
from annotator.project import Project
from annotator.workspace.looking import Looking
from annotator.workspace.swaps import EncoderSwaps, Json, Work


class Improvements:
    """The improvements of one process, tried by `swaps`."""

    def __init__(self, swaps: EncoderSwaps) -> None:
        self._swaps = swaps
        self._known: dict[Path, Improving] = {}
        self._looking = Looking("improvements", lambda project: self._try(self.improving(project), Improving.due))
        self._lock = threading.Lock()

    def look(self, project: Project) -> None:
        """See in a thread whether an improvement is due, and begin with it; while one looks, it looks once more."""
        self._looking.look(project)

    def resume(self, project: Project) -> None:
        """Go on with what was being tried when an earlier process stopped."""
        self._try(self.improving(project), Improving.left_unfinished)

    def may_begin(self, project: Project) -> bool:
        """Whether anything can become due: where a person chose the encoder, nothing can."""
        return self.improving(project).may_begin

    def trials(self, project: Project) -> Trials:
        """What is being tried in a project, and what was."""
        return self.improving(project).trials

    def improving(self, project: Project) -> Improving:
        """What was tried in this open project."""
        with self._lock:
            known = self._known.get(project.folder)
            if known is None or known.project is not project:
                known = self._known[project.folder] = Improving(project)
            return known

    def _try(self, improving: Improving, find: Callable[[Improving], Task | None]) -> None:
        """Begin with what `find` gives, in a thread where nobody would hear of an error."""
        try:
            if is_for(improving.project) and self._swaps.running(improving.project) is None:
                self._begin(improving, find)
        except AnnotatorError:  # the store is in trouble, and says so where it is asked; the next batch looks again
            return
        except Exception as error:
            _say(improving.project, error)

    def _begin(self, improving: Improving, find: Callable[[Improving], Task | None]) -> None:
        """Under the right to try, which the work lets go of; nothing while another process has it."""
        right, is_started = improving.right_to_try(), False
        if not right.acquire():
            return
        try:
            task = find(improving)
            if task is not None:
                is_started = self._swaps.start_unless_busy(improving.project, _work(improving, task, right))
        finally:
            if not is_started:
                right.release()


def _work(improving: Improving, task: Task, right: Exclusive) -> Work:
    def done(result: Json) -> None:
        improving.end(task, result["said"], result["changes"] is not None)

    return Work(
        title=f"Trying the features of {task.title}",
        target=task.target,
        arguments=task.arguments,
        changes=lambda result: result["changes"],
        begun=lambda: improving.begin(task),
        done=done,
        failed=lambda error: improving.fail(task, error),
        over=right.release,
        is_trial=True,
    )


def _say(project: Project, error: Exception) -> None:
    """A fault in a plug-in or in this program: labeling goes on."""
    if not project.wanted:
        features = project.config.features
        project.set_notice(f"Better features cannot be looked for ({error!r}); those of {features} are used.")
