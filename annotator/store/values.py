"""The store's values: people, classes, images, questions, events, model records. Frozen; know no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OUTCOMES = ("label", "skip", "unsure", "none-of-these")


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

    @property
    def event_id(self) -> str:
        """The id of the next answer to this question: the same however often it is sent."""
        return f"{self.question_id}.{self.n_events}"


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
    metrics: dict[str, Any]  # Any: JSON
    sha256: str | None = None
    """Of the file with its prediction; None where there is none yet."""
