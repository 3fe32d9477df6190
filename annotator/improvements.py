"""What may make a project's features better while it is labeled: which there are, when each is due, what came of it.

An improvement is a job: it is given what `arguments(project, seq)` says, and returns

    {"changes": {field of Config: value} or None, "said": "a sentence with figures"}

None where all stays as it is. It judges itself (see judging.py): what it returns is put to use between two batches.
Another improvement is a function, a target, and a line in `IMPROVEMENTS`. Runs none: workspace/improvements.py does so
beside the labeling, simulate.py between two rounds. `Improving` knows what was tried in an open project; the file is a
copy for the next process, which makes target and arguments anew from the labels of that moment.

    projects/<folder>/improvements.json     what is being tried, and what was; may be lost
    projects/<folder>/improvements.lock     held by the process that tries
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from annotator import candidates, durable, finetuning
from annotator.errors import AnnotatorError, Cancelled
from annotator.exclusive import Exclusive
from annotator.project import Project
from annotator.store import snapshot as snapshots

NAME, LOCK = "improvements.json", "improvements.lock"
FOR = ("auto", "finetuned")
"""Encoders of projects whose features may change by themselves; with any other, a person chose them for good."""
GROWTH = 1.5
"""So many times the labels of the last attempt are there before an improvement is tried again."""
Json = dict[str, Any]  # Any: what a job takes and gives


def _never(project: Project) -> bool:
    return False


@dataclass(frozen=True)
class Improvement:
    """Something that may be better than what is in use."""

    name: str
    target: str
    """Of its job, see annotator/jobs."""
    arguments: Callable[[Project, int], Json | None]
    """Of its job, by the labels up to the event of this seq; None where it is not due."""
    applies: Callable[[Project], bool]
    """Whether it may become due with more labels."""
    is_lost: Callable[[Project], bool] = _never
    """Whether what an earlier attempt gave is gone: then it is tried again, however few labels came since."""
    growth: float = GROWTH
    """How many times the labels of the last attempt have to be there."""
    once: bool = False
    """Whether one attempt is enough, however many labels come."""


@dataclass(frozen=True)
class Begun:
    """An improvement that is being tried, as the file keeps it: nothing that would mislead in another folder."""

    name: str
    n_labels: int
    seq: int
    """Of the newest event that counts."""
    dataset: str
    """The version of that in use."""


@dataclass(frozen=True)
class Task:
    """An improvement to try, with its job."""

    begun: Begun
    target: str
    arguments: Json

    @property
    def name(self) -> str:
        """The improvement's."""
        return self.begun.name

    @property
    def title(self) -> str:
        """What is tried, as a person reads it: an improvement's own name, or what its arguments call "title"."""
        return str(self.arguments.get("title", self.name))


@dataclass(frozen=True)
class Attempt:
    """An improvement that was tried."""

    n_labels: int
    message: str
    """What came of it; empty where there is nothing to say."""
    is_applied: bool
    """Whether it is used since."""
    dataset: str = ""
    """The version of that in use when it had ended."""


@dataclass(frozen=True)
class Trials:
    """What is being tried in a project, and the last attempt at each improvement, in the order of their ends."""

    begun: Begun | None = None
    tried: Mapping[str, Attempt] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """What came of the last attempt that has something to say; empty where there was none."""
        return _newest_message(self.tried.values())

    def message_on(self, dataset: str) -> str:
        """As `message`, of attempts that ended with the dataset of this version in use."""
        return _newest_message(attempt for attempt in self.tried.values() if attempt.dataset == dataset)

    def joined(self, other: Trials) -> Trials:
        """What is being tried here, and the later one of two attempts at the same; that of `other` where it is one."""
        tried = dict(self.tried)
        for name, attempt in other.tried.items():
            if name not in tried or tried[name].n_labels <= attempt.n_labels:
                tried.pop(name, None)
                tried[name] = attempt
        return Trials(self.begun, tried)

    @classmethod
    def read(cls, folder: Path) -> Trials:
        """Of the project in this folder; none where the file is lost or damaged."""
        with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
            found = json.loads((folder / NAME).read_text())
            begun = None if found["begun"] is None else Begun(**found["begun"])
            return cls(begun, {name: Attempt(**one) for name, one in found["tried"].items()})
        return cls()

    def write(self, folder: Path) -> None:
        """Left out where there is no room for it."""
        with suppress(OSError):
            durable.write(folder / NAME, json.dumps(asdict(self)))


IMPROVEMENTS: tuple[Improvement, ...] = (
    Improvement(
        "contrastive, computed",
        candidates.PREPARE,
        partial(candidates.to_prepare, "contrastive"),
        partial(candidates.applies, "contrastive"),
        once=True,
    ),
    Improvement("hog", candidates.JUDGE, partial(candidates.to_judge, "hog"), partial(candidates.applies, "hog")),
    Improvement(
        "contrastive",
        candidates.JUDGE,
        partial(candidates.to_judge, "contrastive"),
        partial(candidates.applies, "contrastive"),
    ),
    Improvement(
        "a network trained on your labels",
        finetuning.TRAIN_JOB,
        finetuning.arguments,
        finetuning.applies,
        finetuning.is_lost,
        growth=2.0,
    ),
)
"""In the order in which they are looked at."""


class Improving:
    """What was and is tried in one open project; by one thread at a time."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.trials = Trials.read(project.folder)
        """Kept here though the disk may be full: what was tried is not begun again for ever."""

    @property
    def may_begin(self) -> bool:
        """Whether anything can become due."""
        return is_for(self.project) and any(
            improvement.applies(self.project) and not (improvement.once and improvement.name in self.trials.tried)
            for improvement in IMPROVEMENTS
        )

    def right_to_try(self) -> Exclusive:
        """What a process has to hold while it tries something."""
        return Exclusive(self.project.folder / LOCK)

    def due(self) -> Task | None:
        """The first improvement that is to be tried now; None where none is."""
        self._read()
        begun = Begun("", n_labels_of(self.project), *self._moment())
        for improvement in IMPROVEMENTS:
            task = self._task(improvement, begun) if self._is_rested(improvement, begun) else None
            if task is not None:
                return task
        return None

    def left_unfinished(self) -> Task | None:
        """What an earlier process began and did not end, where the features in use are still the same."""
        self._read()
        begun = self.trials.begun
        if begun is None or begun.dataset != self.project.prepared.dataset.version:
            return None
        found = [improvement for improvement in IMPROVEMENTS if improvement.name == begun.name]
        return self._task(found[0], begun) if found else None

    def begin(self, task: Task) -> None:
        """Keep that this is being tried, so that a restart goes on with it."""
        self._keep(Trials(task.begun, self.trials.tried))

    def end(self, task: Task, message: str, is_applied: bool) -> None:
        """Keep what came of it."""
        version = self.project.prepared.dataset.version
        tried = {name: attempt for name, attempt in self.trials.tried.items() if name != task.name}
        tried[task.name] = Attempt(task.begun.n_labels, message, is_applied, version)
        self._keep(Trials(None, tried))
        with suppress(AnnotatorError):  # what is left over goes the next time
            finetuning.remove_unused(self.project)

    def fail(self, task: Task, error: Exception) -> None:
        """Keep why nothing came of it."""
        ended, why = how(error)
        features = self.project.config.features
        self.end(task, f"Trying {task.title} {ended}; the features of {features} are used.{why}", is_applied=False)

    def _read(self) -> None:
        """Take in what another process has tried meanwhile."""
        self.trials = Trials.read(self.project.folder).joined(self.trials)

    def _keep(self, trials: Trials) -> None:
        self.trials = trials
        trials.write(self.project.folder)

    def _moment(self) -> tuple[int, str]:
        return self.project.store.snapshot().head_seq, self.project.prepared.dataset.version

    def _task(self, improvement: Improvement, begun: Begun) -> Task | None:
        """By the labels of that moment, so that a training finds what it has learned from them."""
        arguments = improvement.arguments(self.project, begun.seq)
        if arguments is None:
            return None
        return Task(replace(begun, name=improvement.name), improvement.target, arguments)

    def _is_rested(self, improvement: Improvement, begun: Begun) -> bool:
        attempt = self.trials.tried.get(improvement.name)
        if attempt is None:
            return True
        if not improvement.once and begun.n_labels >= improvement.growth * max(1, attempt.n_labels):
            return True
        return attempt.dataset != begun.dataset and improvement.is_lost(self.project)


def is_for(project: Project) -> bool:
    """Whether its features may change by themselves."""
    return project.config.encoder in FOR


def how(error: Exception) -> tuple[str, str]:
    """What to say of work that did not come about: ("was cancelled", "") or ("failed", " why")."""
    return ("was cancelled", "") if isinstance(error, Cancelled) else ("failed", f" {error}")


def n_labels_of(project: Project) -> int:
    """Standing labels of everyone."""
    return snapshots.n_labels(project.store.snapshot())


def _newest_message(attempts: Iterable[Attempt]) -> str:
    return next((attempt.message for attempt in reversed(list(attempts)) if attempt.message), "")
