"""The inbox: stores the messages that a browser keeps in its outbox until they are acknowledged.

They come in any order and any number of times. A message that is stored, or was stored before, is "stored"; one that
can never be is "refused"; one that only this moment does not allow (a full disk, a busy store) is "kept", and what
follows it waits so that the order stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

from annotator import reports
from annotator.errors import AnnotatorError, ConfigError, StoreError
from annotator.session import Session
from annotator.store import Deciding
from annotator.wire.incoming import Answer, Change, Flag, Undo, read_message

FOR_GOOD = {"STORE_CONFLICT", "STORE_AUTHZ", "STORE_NOT_ASKED"}


class Result(TypedDict):
    """What became of one message."""

    status: Literal["stored", "refused", "kept"]
    reason: NotRequired[str]


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
    try:
        _store(session, read_message(entry))
    except ConfigError as error:
        return {"status": "refused", "reason": str(error)}
    except StoreError as error:
        return {"status": "refused" if error.code in FOR_GOOD else "kept", "reason": str(error)}
    except AnnotatorError as error:
        return {"status": "kept", "reason": str(error)}
    return {"status": "stored"}


def _store(session: Session, message: Answer | Change | Undo | Flag) -> None:
    if isinstance(message, Undo):
        session.undo(message.of)
    elif isinstance(message, Flag):
        session.flag(message.q, message.id, message.text)
    elif isinstance(message, Change):
        session.change(message.of, _class_name(session, message), message.outcome, _deciding(message))
    else:
        _answer(session, message)


def _answer(session: Session, message: Answer) -> None:
    image_id, name = session.image_of(message.q), _class_name(session, message)
    if name is not None:
        session.label(image_id, name, message.id, _deciding(message))
    else:
        session.skip(image_id, message.outcome, message.id, _deciding(message))


def _deciding(message: Answer | Change) -> Deciding:
    return Deciding(message.ms, message.guess)


def _class_name(session: Session, message: Answer | Change) -> str | None:
    if message.outcome != "label":
        return None
    offered = reports.classes(session.moment())
    found = [known for known in offered if known.class_id == message.class_id and not known.retired]
    if not found:
        raise ConfigError("That class is not offered any more; choose another.", "CLASS_UNKNOWN")
    return found[0].name
