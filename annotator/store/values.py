"""What the store takes and gives: frozen values of one row each. Knows no database."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypeVar

from annotator.errors import ConfigError
from annotator.store import event_ids

OUTCOMES = event_ids.OUTCOMES
KINDS = ("answer", "change", "undo", "flag")
"""Of what a person does with a card."""
Json = Any  # what JSON can hold
Row = Any  # column values by name: SQLAlchemy's RowMapping, or a dict
Value = TypeVar("Value")


@dataclass(frozen=True)
class Annotator:
    """Who answers; `number` is stable and part of every batch's random stream."""

    annotator_id: str
    number: int
    name: str
    role: str = "annotator"


@dataclass(frozen=True)
class LabelClass:
    """A class: its id is its code, never reused; its name may change."""

    class_id: int
    name: str
    retired: bool = False


@dataclass(frozen=True)
class ImageRecord:
    """One entry of the source: in the pool at `row`, or set aside with a reason."""

    image_id: str
    row: int | None
    content_sha256: str = ""
    status: str = "ok"
    reason: str = ""


@dataclass(frozen=True)
class Question:
    """An image that was, or is about to be, asked about, and everything known when it was chosen."""

    image_id: str
    round: int
    rank: int
    purpose: str
    strategy: str
    strategy_version: str
    guess: int | None
    guess_probability: float | None
    guess_entropy: float | None
    guess_visible: bool
    score: float | None
    propensity: float | None
    model_version: int | None
    config_version: int
    chosen_at_seq: int
    annotator_id: str = ""
    question_id: str = ""
    n_events: int = 0
    shown_at: str | None = None
    closed_by: str | None = None
    reason: str | None = None
    """Why the strategy picked the image, as JSON (see reasons.py); None where it said nothing but a score."""

    @property
    def hides_guess(self) -> bool:
        """Whether the model has a guess that is not shown."""
        return self.guess is not None and not self.guess_visible

    @property
    def event_id(self) -> str:
        """The id of the next answer to this question: the same however often it is sent."""
        return event_ids.answer(self.question_id, self.n_events)


@dataclass(frozen=True)
class Event:
    """One row of the log."""

    seq: int
    event_id: str
    kind: str
    annotator_id: str | None = None
    image_id: str | None = None
    class_id: int | None = None
    outcome: str | None = None
    question_id: str | None = None
    supersedes: str | None = None
    undoes: str | None = None
    client_ms: int | None = None
    payload: str = "{}"
    created_at: str = ""


@dataclass(frozen=True)
class Answer:
    """What a person did with one card, in ids alone: an answer, a change of one, an undo, or a flag."""

    kind: str
    """One of KINDS."""
    event_id: str = ""
    """Minted where the card was shown (see event_ids.py); of a change or an undo it follows from `seen_id`."""
    question_id: str = ""
    """Of an answer or a flag."""
    seen_id: str = ""
    """Of a change or an undo: the newest event of the image that the person saw."""
    outcome: str = "label"
    class_id: int | None = None
    milliseconds: int | None = None
    """From when the person could decide until they did, as the browser measured it."""
    guess_shown: bool | None = None
    """Whether the model's guess was on the screen."""
    comment: str = ""
    """Of a flag; an empty one takes the flag back."""
    image_id: str = ""
    """The image that was on the screen, where the caller knows it: it must be the one that was asked about."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a kind or an outcome that there is not."""
        if self.kind not in KINDS:
            raise ConfigError(f"No kind of answer {self.kind!r}. Choose from: {', '.join(KINDS)}.")
        if self.outcome not in OUTCOMES or (self.outcome != "label" and self.class_id is not None):
            raise ConfigError(f"No answer {self.outcome!r} with class {self.class_id}. Only a label has a class.")


@dataclass(frozen=True)
class Deciding:
    """How an answer came about, as the browser measured it."""

    milliseconds: int | None
    """From when the person could decide until they did."""
    guess_shown: bool | None
    """Whether the model's guess was on the screen."""


@dataclass(frozen=True)
class ModelRecord:
    """One fit: what it was trained on and what was measured."""

    version: int
    trained_through: int
    dataset_version: str
    config_version: int
    metrics: dict[str, Json]
    sha256: str | None = None
    """Of the file with its prediction; None where there is none yet."""


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(part.name for part in fields(kind))


def made(kind: type[Value], row: Row) -> Value:
    """One of the dataclasses above, from the columns that it has a field for."""
    return kind(**{name: row[name] for name in _names(kind) if name in row})  # type: ignore[arg-type]  # a dataclass
