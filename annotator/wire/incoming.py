"""Messages in: what a browser, or a program, says about one image. Types alone; knows no session.

    answer   the first answer to an open card
    change   another answer in place of the one seen
    undo     the answer seen is taken back
    flag     a comment beside the answer

Each has the id of its event, which says the same again: see store/event_ids.py. So none can take the id of an event of
another kind or question.

Anything can come from outside: `read_message` returns a message with every field of its type, or raises one typed
error. Two fields are only figures, and a wrong one is left out: how long the answer took, whether the guess was shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from annotator.errors import ConfigError
from annotator.store import event_ids

LONGEST_COMMENT, LONGEST_ID, LONGEST_DECISION_MS = 500, 4_000, 86_400_000
MOST_CLASS_IDS = 2**31
"""More than a project can have, and few enough for every database."""
PRINTABLE = re.compile(r"[ -~]*")


def _id(value: object) -> object:
    """Printable ASCII, as all ids are that were minted here or by the grid; empty where there is none."""
    text = "" if value is None else value
    if isinstance(text, str) and not PRINTABLE.fullmatch(text):
        raise ValueError("an id is printable ASCII")
    return text


def _milliseconds(value: object) -> object:
    return value if type(value) is int and 0 <= value <= LONGEST_DECISION_MS else None


def _shown(value: object) -> object:
    return value if type(value) is bool else None


def _comment(value: object) -> object:
    """Half a character, which a browser may send where a text was cut, is shown as �: it could not be stored."""
    if not isinstance(value, str):
        return "" if value is None else value
    whole = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\0", "�")[:LONGEST_COMMENT].strip()


Id = Annotated[str, Field(max_length=LONGEST_ID), BeforeValidator(_id)]
Comment = Annotated[str, BeforeValidator(_comment)]
Milliseconds = Annotated[int | None, BeforeValidator(_milliseconds)]
Shown = Annotated[bool | None, BeforeValidator(_shown)]
Outcome = Literal["label", "skip", "unsure", "none-of-these"]


class _Message(BaseModel):
    """Strict types; fields that are not named here are left out."""

    model_config = ConfigDict(strict=True, frozen=True)

    id: Id = ""


class _WithAnswer(_Message):
    outcome: Outcome
    class_id: int | None = Field(default=None, alias="class", ge=0, lt=MOST_CLASS_IDS)
    ms: Milliseconds = None
    """How long the answer took."""
    guess: Shown = None
    """Whether the model's guess was on the screen."""

    @model_validator(mode="after")
    def _names_a_class(self) -> _WithAnswer:
        if self.outcome == "label" and self.class_id is None:
            raise ValueError("a label names a class")
        return self


class Answer(_WithAnswer):
    """The first answer to an open card."""

    kind: Literal["answer"]
    q: Id = ""
    """The question's id."""


class Change(_WithAnswer):
    """Another answer in place of the one that was seen."""

    kind: Literal["change"]
    seen: Id = Field("", alias="of")
    """The event seen."""


class Undo(_Message):
    """The answer that was seen is taken back."""

    kind: Literal["undo"]
    seen: Id = Field("", alias="of")
    """The event seen."""


class Flag(_Message):
    """A comment beside the answer; an empty one takes it back."""

    kind: Literal["flag"]
    q: Id = ""
    """The question's id."""
    text: Comment = ""


Message = Annotated[Answer | Change | Undo | Flag, Field(discriminator="kind")]
_MESSAGE: TypeAdapter[Answer | Change | Undo | Flag] = TypeAdapter(Message)


def read_message(entry: Mapping[str, Any]) -> Answer | Change | Undo | Flag:  # Any: JSON from outside
    """The message with an id of its kind. Raises ConfigError (EVENT) for anything else."""
    try:
        message = _MESSAGE.validate_python(entry)
    except ValidationError as error:
        raise _unreadable(entry) from error
    found = event_ids.parse(message.id)
    about = message.q if isinstance(message, Answer | Flag) else message.seen
    if found is None or (found.kind, found.about) != (message.kind, about):
        raise _unreadable(entry)
    return message


def _unreadable(entry: Mapping[str, Any]) -> ConfigError:  # Any: JSON from outside
    return ConfigError(f"The browser sent an answer that cannot be read ({str(entry)[:80]}); reload the page.", "EVENT")
