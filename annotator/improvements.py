"""What may make a project's features better while it is labeled: which there are, when each is due, what came of it.

An improvement is a job: it is given what `arguments(project)` says, and returns

    {"changes": {field of Config: value} or None, "said": "a sentence with figures"}

None where all stays as it is. It judges itself (see judging.py): what it returns is put to use between two batches.
Another improvement is a function, a target, and a line in `IMPROVEMENTS`. Runs none: workspace/improvements.py does so
beside the labeling, simulate.py between two rounds.

    projects/<folder>/improvements.json     what is being tried, and what was; may be lost
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from annotator import candidates, durable, finetuning
from annotator.project import Project
from annotator.store import snapshot as snapshots

NAME = "improvements.json"
FOR = ("auto", "finetuned")
"""Encoders of projects whose features may change by themselves; with any other, a person chose them for good."""
GROWTH = 1.5
"""So many times the labels of the last attempt are there before an improvement is tried again."""
Json = dict[str, Any]  # Any: what a job takes and gives


@dataclass(frozen=True)
class Improvement:
    """Something that may be better than what is in use."""

    name: str
    target: str
    """Of its job, see annotator/jobs."""
    arguments: Callable[[Project], Json | None]
    """Of its job; None where it is not due."""
    once: bool = False
    """Whether one attempt is enough, however many labels come."""


@dataclass(frozen=True)
class Begun:
    """An improvement that is being tried."""

    name: str
    target: str
    arguments: Json
    n_labels: int
    dataset: str
    """The version of that in use."""

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


@dataclass(frozen=True)
class Trials:
    """What is being tried in a project, and the last attempt at each improvement, in the order of their ends."""

    begun: Begun | None = None
    tried: Mapping[str, Attempt] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """What came of the last attempt that has something to say; empty where there was none."""
        return next((attempt.message for attempt in reversed(list(self.tried.values())) if attempt.message), "")

    @classmethod
    def read(cls, folder: Path) -> Trials:
        """Of the project in this folder; none where the file is lost or damaged."""
        with suppress(OSError, ValueError, TypeError, AttributeError):
            found = json.loads((folder / NAME).read_text())
            begun = None if found["begun"] is None else Begun(**found["begun"])
            return cls(begun, {name: Attempt(**one) for name, one in found["tried"].items()})
        return cls()

    def write(self, folder: Path) -> None:
        """Left out where there is no room for it."""
        with suppress(OSError):
            durable.write(folder / NAME, json.dumps(asdict(self)))


IMPROVEMENTS: tuple[Improvement, ...] = (
    Improvement("contrastive, computed", candidates.PREPARE, partial(candidates.to_prepare, "contrastive"), once=True),
    Improvement("hog", candidates.JUDGE, partial(candidates.to_judge, "hog")),
    Improvement("contrastive", candidates.JUDGE, partial(candidates.to_judge, "contrastive")),
    Improvement("a network trained on your labels", finetuning.TRAIN_JOB, finetuning.arguments),
)
"""In the order in which they are looked at."""


def due(project: Project) -> Begun | None:
    """The first improvement that is to be tried now; None where none is."""
    trials, n_labels = Trials.read(project.folder), n_labels_of(project)
    for improvement in IMPROVEMENTS:
        if _is_rested(improvement, trials.tried.get(improvement.name), n_labels):
            arguments = improvement.arguments(project)
            if arguments is not None:
                version = project.prepared.dataset.version
                return Begun(improvement.name, improvement.target, arguments, n_labels, version)
    return None


def left_unfinished(project: Project) -> Begun | None:
    """What an earlier process began with and did not end, where the features in use are still the same."""
    begun = Trials.read(project.folder).begun
    return begun if begun is not None and begun.dataset == project.prepared.dataset.version else None


def begin(project: Project, begun: Begun) -> None:
    """Keep that this is being tried, so that a restart goes on with it."""
    replace(Trials.read(project.folder), begun=begun).write(project.folder)


def end(project: Project, begun: Begun, message: str, is_applied: bool) -> None:
    """Keep what came of it."""
    tried = dict(Trials.read(project.folder).tried)
    tried.pop(begun.name, None)
    tried[begun.name] = Attempt(begun.n_labels, message, is_applied)
    Trials(None, tried).write(project.folder)


def n_labels_of(project: Project) -> int:
    """Standing labels of everyone."""
    return snapshots.n_labels(project.store.snapshot())


def _is_rested(improvement: Improvement, attempt: Attempt | None, n_labels: int) -> bool:
    if attempt is None:
        return True
    return not improvement.once and n_labels >= GROWTH * max(1, attempt.n_labels)
