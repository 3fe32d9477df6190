"""Messages out: what the labeling grid, or a program, is given to draw. Types alone; knows no session and no page.

`as_json` is what is sent: the field names are the component's own, see grid/surface.js. What this process makes for its
own component is held to these types by tests alone, so that the first page need not wait for pydantic.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

Json = dict[str, Any]  # Any: whatever JSON can hold


Point = Annotated[tuple[int, float, float | None, float | None], Strict(False)]  # a list will do
Mark = Annotated[tuple[int, str], Strict(False)]


class _Part(BaseModel):
    """Strict types and no field beside those named here."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", populate_by_name=True)


class AnswerGiven(_Part):
    """The answer that stands on a card."""

    outcome: str
    class_id: int | None = Field(alias="class")


class Guess(_Part):
    """The model's guess, where it is shown."""

    class_id: int = Field(alias="class")
    p: float | None
    entropy: float | None


class Picture(_Part):
    """Where the browser finds an image, and at which size in px it is drawn."""

    src: str
    full: str
    w: int
    h: int
    pixelated: bool


class CardData(Picture):
    """One asked image."""

    image: str
    q: str
    """The question's id."""
    n_events: int
    """How many events its chain has; the next answer's id counts on from it."""
    head: str | None
    """The newest event of the chain."""
    seq: int | None
    answer: AnswerGiven | None
    guess: Guess | None
    hidden: bool
    """Whether there is a guess that is not shown."""
    audit: bool
    top: list[int]
    """The ids of the most probable classes."""
    flag: str | None
    reason: str | None
    """Why the image was picked; None on every card of a batch, or on none."""


class BatchData(_Part):
    """One batch."""

    round: int
    why: str
    labels_at: int | None
    """How many labels there were when it was chosen."""
    cards: list[CardData]


class Status(_Part):
    """How far this annotator is."""

    saved: int
    labels: int
    round: int
    left: int
    pool: int
    pace: float | None
    """Seconds per answer."""


class ClassData(_Part):
    """A class that is offered."""

    id: int
    name: str
    key: str | None
    colour: str


class Curve(_Part):
    """The learning curve: [labels, accuracy, low, high] by labels, and [labels, what changed there]."""

    points: list[Point]
    caption: str
    marks: list[Mark]


class Verdict(_Part):
    """What became of one message that was sent, see inbox.py."""

    status: Literal["stored", "refused", "kept"]
    reason: str = ""


class GridData(_Part):
    """Everything that is drawn."""

    project: str
    annotator: str
    title: str
    results: dict[str, Verdict]
    """What became of the messages that were sent last."""
    pages: list[BatchData]
    """As the browser calls a batch that it draws."""
    pending: bool
    """Whether the next batch is being chosen."""
    finished: bool
    held: str
    """Who was asked about the last images, where none is left for this annotator; empty otherwise."""
    status: Status
    news: str
    background: str
    """What failed or goes on in the background; empty where there is nothing to say."""
    curve: Curve
    classes: list[ClassData]
    names: dict[str, str]
    """class id -> name of the classes that are not offered any more."""
    many: bool
    """Whether there are too many classes for a key each."""

    def as_json(self) -> Json:
        """What is sent."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)
