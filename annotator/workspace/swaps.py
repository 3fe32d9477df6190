"""Work for an open project: computed by a job while labeling goes on, then put to use between two batches.

Another encoder that a person asked for, and improvements that are tried (see improvements.py), come this way alike: one
at a time for each project. What a job found is put to use by a thread of this process, whether or not anybody looks at
the project. What went wrong is said on the project. An encoder that a dead process began with is taken up again when
the project is opened. Knows no browser.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from annotator.config import stands_for
from annotator.improvements import how
from annotator.jobs import Job
from annotator.pointer import CACHE, bring_network
from annotator.project import Project, check_pool
from annotator.workspace.jobs import Jobs

WATCH_SECONDS = 1.0
PREPARE = "annotator.dataset:prepare_job"
Json = dict[str, Any]  # Any: what a job takes and gives; fields of Config


@dataclass(frozen=True)
class Work:
    """What a job computes for a project, and what becomes of its result."""

    title: str
    """What it is about, in a few words: "Preparing the encoder imagenet"."""
    target: str
    arguments: Json
    changes: Callable[[Json], Json | None]
    """The job's result -> fields of Config that are to change; None where all stays as it is."""
    begun: Callable[[], None]
    """Keep on the disk that it is on its way."""
    done: Callable[[Json], None]
    """Keep what came of it: the job's result; called when the changes are in use."""
    failed: Callable[[Exception], None]
    """Say on the project why it stays as it is."""
    over: Callable[[], None] = lambda: None
    """Called at the very end, whatever became of it, also where other work has taken its place."""
    is_trial: bool = False
    """Whether it began by itself, and nobody waits for it."""


@dataclass(eq=False)
class EncoderSwap:
    """Work on its way into a project."""

    key: str
    """Of its job."""
    job: Job
    work: Work
    over: threading.Event = field(default_factory=threading.Event)
    """Set when its features are in use, or will not be."""
    is_applied: bool = False
    """Whether its features are in use."""


class EncoderSwaps:
    """The work of one process for its projects, the newest of each.

    `between_batches` gives a project's context in which no batch is chosen. `afterwards` is called with a project whose
    work is over.
    """

    def __init__(
        self,
        jobs: Jobs,
        between_batches: Callable[[Project], AbstractContextManager[None]],
        afterwards: Callable[[Project], None],
    ) -> None:
        self._jobs = jobs
        self._between_batches = between_batches
        self._afterwards = afterwards
        self._newest: dict[Path, EncoderSwap] = {}
        """By the project's folder: a copied project has the same id."""
        self._lock = threading.RLock()

    def start(self, project: Project, changes: Json) -> None:
        """Encode with another encoder in a child process, in place of whatever is on its way.

        Raises ModelError: MODEL_TOO_SMALL where the encoder cannot be trained on so few images, MODEL_NETWORK and
        MODEL_SAVE where the network that it names is lost or there is no room for a copy.
        """
        check_pool(project, replace(project.config, **changes))
        bring_network(project.folder, changes.get("encoder_parameters", {}))
        with self._lock:
            before = self.running(project)
            if before is not None:
                before.job.cancel()
            self._start(project, _encoding(project, changes))

    def start_unless_busy(self, project: Project, work: Work) -> bool:
        """Start this in a child process, and say so, unless something is on its way. Raises JobError."""
        with self._lock:
            if self.running(project) is not None or project.wanted:
                return False
            self._start(project, work)
            return True

    def newest(self, project: Project) -> EncoderSwap | None:
        """The last work that was begun, also when it is over."""
        return self._newest.get(project.folder)

    def running(self, project: Project) -> EncoderSwap | None:
        """The work on its way; None where there is none, or it is over."""
        newest = self.newest(project)
        return None if newest is None or newest.over.is_set() else newest

    def resume(self, project: Project) -> None:
        """Go on with the encoder that was being computed when an earlier process stopped."""
        with self._lock:
            if not project.wanted or self.running(project) is not None:
                return
            try:
                self.start(project, project.wanted)
            except Exception as error:  # as in `_watch`; what is wanted was read from a file
                project.set_notice(f"The encoder {project.wanted.get('encoder')} was not taken up again. {error}")

    def _start(self, project: Project, work: Work) -> None:
        key = self._jobs.start(work.target, work.arguments)
        job = self._jobs.get(key)
        assert job is not None
        swap = self._newest[project.folder] = EncoderSwap(key, job, work)
        work.begun()
        threading.Thread(target=self._watch, args=(project, swap), name="encoder-swap", daemon=True).start()

    def _watch(self, project: Project, swap: EncoderSwap) -> None:
        """Wait for the job, then put its result to use; in a thread of its own."""
        try:
            self._apply(project, swap, swap.job.wait(poll=WATCH_SECONDS))
        except Exception as error:  # whatever it is: what is said to be on its way must come or be said not to
            self._explain(project, swap, error)
        finally:
            swap.work.over()
            swap.over.set()
            self._jobs.forget(swap.key)
        self._afterwards(project)

    def _apply(self, project: Project, swap: EncoderSwap, result: Json) -> None:
        changes = swap.work.changes(result)
        with self._lock, self._between_batches(project):
            if self.newest(project) is not swap:
                return
            if changes is not None:
                project.change(**changes)
                swap.is_applied = True
            swap.work.done(result)

    def _explain(self, project: Project, swap: EncoderSwap, error: Exception) -> None:
        """Say why the project stays as it is; nothing where other work has taken the place of this."""
        with self._lock:
            if self.newest(project) is swap:
                swap.work.failed(error)


def _encoding(project: Project, changes: Json) -> Work:
    """The pool with another encoder, which takes over as it is."""
    config = replace(project.config, **changes)
    encoder = stands_for(config.encoder, config.encoder_parameters)

    def failed(error: Exception) -> None:
        ended, why = how(error)
        project.set_notice(
            f"Computing the features of {encoder} {ended}; those of {project.config.features} are used. "
            f"Settings starts it again.{why}"
        )

    return Work(
        title=f"Preparing the encoder {encoder}",
        target=PREPARE,
        arguments={
            "recipe": asdict(config.recipe),
            "cache": str(project.folder.parent / CACHE),
            "own_classes": False,
        },
        changes=lambda result: {**changes, "encoder_parameters": result["encoder_parameters"]},
        begun=lambda: project.set_wanted(changes),
        done=lambda _: project.set_wanted({}) if project.wanted else None,
        failed=failed,
    )
