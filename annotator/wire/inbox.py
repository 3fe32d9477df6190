"""The inbox: stores the messages that a browser keeps in its outbox until they are acknowledged.

They come in any order and any number of times. A message that is stored, or was stored before, is "stored"; one that
can never be is "refused"; one that only this moment does not allow (a full disk, a busy store) is "kept", and what
follows it waits so that the order stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from annotator import store
from annotator.errors import AnnotatorError, ConfigError, StoreError
from annotator.session import Session

if TYPE_CHECKING:
    from annotator.wire.incoming import Answer, Change, Flag, Undo

FOR_GOOD = {"STORE_CONFLICT", "STORE_AUTHZ", "STORE_NOT_ASKED", "STORE_VALUE"}


class Result(TypedDict):
    """What became of one message."""

    status: Literal["stored", "refused", "kept"]
    reason: NotRequired[str]


def prepare() -> None:
    """Import what reading a message takes: pydantic, which the first page need not wait for."""
    import_module("annotator.wire.incoming")


def receive(session: Session, value: object) -> dict[str, Result]:
    """Store what the outbox holds; message key -> what became of it. Messages not named are to be sent again."""
    results: dict[str, Result] = {}
    for entry in entries(value):
        result = _receive_one(session, entry)
        results[_key(entry)] = result
        if result["status"] == "kept":
            break
    return results


def keep_all(value: object, reason: str) -> dict[str, Result]:
    """What became of each message where none could be stored at this moment."""
    return {_key(entry): {"status": "kept", "reason": reason} for entry in entries(value)}


def rounds_shown(value: object) -> list[int]:
    """Rounds that have been on the screen since the outbox was sent last."""
    shown = value.get("shown") if isinstance(value, Mapping) else None
    return [number for number in shown if type(number) is int] if isinstance(shown, list) else []


def entries(value: object) -> list[Mapping[str, Any]]:  # Any: JSON from outside
    """The messages as they came, unread."""
    events = value.get("events") if isinstance(value, Mapping) else None
    return [entry for entry in events if isinstance(entry, Mapping)] if isinstance(events, list) else []


def _key(entry: Mapping[str, Any]) -> str:  # Any: JSON from outside
    """What the browser calls the message, as it came: even one that cannot be read is answered under it."""
    return str(entry.get("key", ""))


def _receive_one(session: Session, entry: Mapping[str, Any]) -> Result:  # Any: JSON from outside
    from annotator.wire.incoming import read_message  # see `prepare`

    try:
        session.give(_as_answer(read_message(entry)))
    except ConfigError as error:
        return {"status": "refused", "reason": str(error)}
    except StoreError as error:
        return {"status": "refused" if error.code in FOR_GOOD else "kept", "reason": str(error)}
    except AnnotatorError as error:
        return {"status": "kept", "reason": str(error)}
    return {"status": "stored"}


def _as_answer(message: Answer | Change | Undo | Flag) -> store.Answer:
    """The message as the store takes it, in ids alone."""
    if message.kind == "undo":
        return store.Answer(message.kind, message.id, seen_id=message.seen)
    if message.kind == "flag":
        return store.Answer(message.kind, message.id, question_id=message.q, comment=message.text)
    return store.Answer(
        message.kind,
        message.id,
        question_id=message.q if message.kind == "answer" else "",
        seen_id=message.seen if message.kind == "change" else "",
        outcome=message.outcome,
        class_id=message.class_id if message.outcome == "label" else None,
        milliseconds=message.ms,
        guess_shown=message.guess,
    )
