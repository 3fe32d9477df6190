"""Another encoder for an open project: computed by a job while labeling goes on, then swapped in. Knows no browser.

The swap is made by a thread of this process, between two batches, whether or not anybody looks at the project. What
went wrong is said on the project. A swap that a dead process began is taken up again when the project is opened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from annotator.config import Config
from annotator.errors import Cancelled
from annotator.jobs import Job
from annotator.pointer import CACHE
from annotator.project import Project, check_pool
from annotator.workspace.jobs import Jobs

WATCH_SECONDS = 1.0
PREPARE = "annotator.dataset:prepare_job"


@dataclass(eq=False)
class EncoderSwap:
    """Another encoder on its way into a project."""

    key: str
    """Of its job."""
    job: Job
    changes: dict[str, Any]  # Any: fields of Config
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the encoder is in use, or will not be."""
    is_applied: bool = False
    """Whether the encoder is in use."""

    @property
    def encoder(self) -> str:
        """The encoder's name."""
        return str(self.changes["encoder"])


class EncoderSwaps:
    """The swaps of one process, the newest of each project.

    `between_batches` gives a project's context in which no batch is chosen.
    """

    def __init__(self, jobs: Jobs, between_batches: Callable[[Project], AbstractContextManager[None]]) -> None:
        self._jobs = jobs
        self._between_batches = between_batches
        self._newest: dict[Path, EncoderSwap] = {}
        """By the project's folder: a copied project has the same id."""
        self._lock = threading.RLock()

    def start(self, project: Project, changes: dict[str, Any]) -> None:  # Any: fields of Config
        """Encode with another encoder in a child process, in place of one on its way.

        Raises ModelError (MODEL_TOO_SMALL) where the encoder cannot be trained on so few images.
        """
        config = replace(project.config, **changes)
        check_pool(project, config)
        with self._lock:
            before = self.running(project)
            if before is not None:
                before.job.cancel()
            swap = self._started(project, config, changes)
            self._newest[project.folder] = swap
            project.set_wanted(changes)
        threading.Thread(target=self._watch, args=(project, swap), name="encoder-swap", daemon=True).start()

    def newest(self, project: Project) -> EncoderSwap | None:
        """The last swap that was begun, also when it is over."""
        return self._newest.get(project.folder)

    def running(self, project: Project) -> EncoderSwap | None:
        """The swap on its way; None where there is none, or it is over."""
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

    def _started(self, project: Project, config: Config, changes: dict[str, Any]) -> EncoderSwap:  # Any: as above
        cache = str(project.folder.parent / CACHE)
        arguments = {"recipe": asdict(config.recipe), "cache": cache, "own_classes": False}
        key = self._jobs.start(PREPARE, arguments)
        job = self._jobs.get(key)
        assert job is not None
        return EncoderSwap(key, job, changes)

    def _watch(self, project: Project, swap: EncoderSwap) -> None:
        """Wait for the job, then swap; in a thread of its own."""
        try:
            swap.job.wait(poll=WATCH_SECONDS)
            self._apply(project, swap)
        except Exception as error:  # whatever it is: what is said to be on its way must come or be said not to
            self._explain(project, swap, error)
        finally:
            swap.over.set()
            self._jobs.forget(swap.key)

    def _apply(self, project: Project, swap: EncoderSwap) -> None:
        with self._lock, self._between_batches(project):
            if self.newest(project) is swap:
                project.change(**swap.changes)
                swap.is_applied = True

    def _explain(self, project: Project, swap: EncoderSwap, error: Exception) -> None:
        """Say on the project why it stays as it is; nothing where another swap has taken the place of this one."""
        how, why = ("was cancelled", "") if isinstance(error, Cancelled) else ("failed", f" {error}")
        with self._lock:
            if self.newest(project) is swap:
                project.set_notice(
                    f"Computing the features of {swap.encoder} {how}; those of {project.config.encoder} are used. "
                    f"Settings starts it again.{why}"
                )
