"""What the browser sends: key presses that it keeps until they are acknowledged. Checked here, then stored.

Anything can stand in it (it comes from outside), in any order and any number of times. An event that is stored, or was
stored before, is "stored"; one that can never be is "refused"; one that only this moment does not allow (a full disk,
a busy store) is "kept", and what follows it waits so that the order stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from annotator.errors import AnnotatorError, ConfigError, StoreError
from annotator.session import Session
from annotator.store import OUTCOMES, Answer, Deciding

FOR_GOOD = {"STORE_CONFLICT", "STORE_AUTHZ", "STORE_NOT_ASKED"}
LONGEST_COMMENT, LONGEST_ID, LONGEST_DECISION_MS = 500, 4_000, 86_400_000
OWN_ID = {"answer": "{question}.", "change": "{seen}>", "undo": "{seen}<", "flag": "{question}!"}
"""kind -> how the id of such an event begins, so that no event can take the id of one of another kind or question."""
KINDS = tuple(OWN_ID)
ID = re.compile(f"[ -~]{{0,{LONGEST_ID}}}")

Result = dict[str, str]
"""{"status": "stored" | "refused" | "kept", "reason": ...}"""


@dataclass(frozen=True)
class Sent:
    """One event as the browser made it."""

    key: str
    kind: str
    event_id: str
    seen_id: str
    """Of a change or an undo: the last event of the image's chain that the person saw."""
    question_id: str
    outcome: str
    class_id: int | None
    comment: str
    deciding: Deciding


def receive(session: Session, value: object) -> dict[str, Result]:
    """Store what the outbox holds; event key -> what became of it. Events not named are to be sent again."""
    results: dict[str, Result] = {}
    for entry in _events(value):
        key = _key(entry)
        result = _receive_one(session, entry)
        results[key] = result
        if result["status"] == "kept":
            break
    return results


def keys(value: object) -> list[str]:
    """The keys of all events that the outbox holds."""
    return [_key(entry) for entry in _events(value)]


def rounds_shown(value: object) -> list[int]:
    """Rounds that have been on the screen since the outbox was sent last."""
    shown = value.get("shown") if isinstance(value, Mapping) else None
    return [number for number in shown if type(number) is int] if isinstance(shown, list) else []


def _key(entry: Mapping[str, Any]) -> str:  # Any: JSON from outside
    """What the browser calls the event, as it came: even one that cannot be read is told by it what became of it."""
    return str(entry.get("key", ""))


def _receive_one(session: Session, entry: Mapping[str, Any]) -> Result:  # Any: JSON from outside
    try:
        _give(session, read_event(entry))
    except ConfigError as error:
        return {"status": "refused", "reason": str(error)}
    except StoreError as error:
        return {"status": "refused" if error.code in FOR_GOOD else "kept", "reason": str(error)}
    except AnnotatorError as error:
        return {"status": "kept", "reason": str(error)}
    return {"status": "stored"}


def _give(session: Session, sent: Sent) -> None:
    says = sent.kind in ("answer", "change")
    session.give(
        Answer(
            sent.kind,
            event_id=sent.event_id,
            question_id=sent.question_id,
            seen_id=sent.seen_id,
            outcome=sent.outcome if says else "label",
            class_id=sent.class_id if says and sent.outcome == "label" else None,
            milliseconds=sent.deciding.milliseconds,
            guess_shown=sent.deciding.guess_shown,
            comment=sent.comment,
        )
    )


def _events(value: object) -> list[Mapping[str, Any]]:  # Any: JSON from outside
    events = value.get("events") if isinstance(value, Mapping) else None
    return [entry for entry in events if isinstance(entry, Mapping)] if isinstance(events, list) else []


def read_event(entry: Mapping[str, Any]) -> Sent:  # Any: JSON from outside
    """An event with every field of its type and an id of its kind. Raises ConfigError (EVENT) for anything else."""
    kind = entry.get("kind")
    outcome = entry.get("outcome")
    class_id, milliseconds, shown = entry.get("class"), entry.get("ms"), entry.get("guess")
    if kind not in KINDS or (kind in ("answer", "change") and outcome not in OUTCOMES):
        raise _unreadable(entry)
    if type(class_id) is not int and (class_id is not None or outcome == "label"):
        raise _unreadable(entry)
    event_id, seen_id, question_id = (_id(entry, name) for name in ("id", "of", "q"))
    if not event_id.startswith(OWN_ID[str(kind)].format(seen=seen_id, question=question_id)):
        raise _unreadable(entry)
    took = milliseconds if type(milliseconds) is int and 0 <= milliseconds <= LONGEST_DECISION_MS else None
    return Sent(
        key=_key(entry),
        kind=str(kind),
        event_id=event_id,
        seen_id=seen_id,
        question_id=question_id,
        outcome=str(outcome),
        class_id=class_id,
        comment=_comment(entry),
        deciding=Deciding(took, shown if type(shown) is bool else None),
    )


def _id(entry: Mapping[str, Any], name: str) -> str:  # Any: JSON from outside
    """Printable ASCII, as all ids are that were minted here or by the surface; empty where there is none."""
    text = "" if entry.get(name) is None else entry[name]
    if not isinstance(text, str) or not ID.fullmatch(text):
        raise _unreadable(entry)
    return text


def _comment(entry: Mapping[str, Any]) -> str:  # Any: JSON from outside
    """Half a character, which a browser may send where a text was cut, is shown as �: it could not be stored."""
    text = "" if entry.get("text") is None else entry["text"]
    if not isinstance(text, str):
        raise _unreadable(entry)
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\0", "�")[:LONGEST_COMMENT].strip()


def _unreadable(entry: Mapping[str, Any]) -> ConfigError:  # Any: JSON from outside
    return ConfigError(f"The browser sent an answer that cannot be read ({str(entry)[:80]}); reload the page.", "EVENT")
