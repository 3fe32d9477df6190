"""The log of events: appended, numbered without gaps, each hashed with the hash of the event before it.

Nothing deletes or overwrites an event: an undo or a changed answer *supersedes* the newest event of its (image,
annotator). `append_all` is the only function that writes events, and it confirms first that the log ends where its head
says. Every function runs inside the caller's transaction and speaks of one project.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from annotator.errors import StoreError
from annotator.store import event_ids, schema
from annotator.store.values import Event, Json, made

GENESIS = "0" * 64
"""Stands for the hash before the first event."""
PAYLOAD_VERSION = 1
CHUNK = 10_000
"""Rows that are read or written at a time."""
MOST_AT_ONCE = 500
"""Ids named in one query."""
_EMPTY = dict.fromkeys(("image_id", "class_id", "outcome", "question_id", "supersedes", "undoes", "client_ms"))
"""What not every event has."""
_HASHED = (
    "seq event_id kind annotator_id image_id class_id outcome question_id supersedes undoes client_ms payload"
    " payload_version created_at"
).split()

canonical_json = json.JSONEncoder(sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode
"""The one spelling of a value that is hashed."""


class BrokenLogError(StoreError):
    """The log does not end where its head says."""

    default_code = "STORE_DAMAGED"


@dataclass(frozen=True)
class Head:
    """Number and hash of the newest event."""

    seq: int
    hash: str


def now() -> str:
    """This moment as ISO 8601 in UTC, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def sha256(text: str) -> str:
    """Of a text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def event_hash(previous: str, row: Mapping[str, Any]) -> str:  # Any: column values
    """Of an event's stored values, chained to the hash of the event before it."""
    return sha256(previous + canonical_json([row[key] for key in _HASHED]))


# The statements are made once: putting one together costs as much as running it.

_events = schema.events
_mine = _events.c.project_id == bindparam("project_id")
_newest = select(func.max(_events.c.seq)).where(_mine).scalar_subquery()
_hash_of_newest = select(_events.c.hash).where(_mine, _events.c.seq == _newest).scalar_subquery()
_HEAD = (
    select(
        schema.projects.c.head_seq,
        schema.projects.c.head_hash,
        _newest.label("newest"),
        _hash_of_newest.label("newest_hash"),
    )
    .where(schema.projects.c.project_id == bindparam("project_id"))
    .with_for_update()
)
_NEWEST_SEQ = select(func.max(_events.c.seq)).where(_mine)
_BY_ID = select(_events).where(_mine, _events.c.event_id == bindparam("event_id"))
_BY_SEQ = select(_events).where(_mine).order_by(_events.c.seq)
_FIRST = select(_events).where(
    _mine,
    _events.c.image_id == bindparam("image_id"),
    _events.c.annotator_id == bindparam("annotator_id"),
    _events.c.supersedes.is_(None),
)
_NEXT = select(_events).where(_mine, _events.c.supersedes == bindparam("event_id"))
_ADD = insert(_events)
_MOVE_HEAD = update(schema.projects).where(schema.projects.c.project_id == bindparam("of_project"))


def begin(connection: Connection, project_id: str, name: str, seed: int) -> None:
    """A new project, its log empty."""
    values = {"project_id": project_id, "name": name, "seed": seed, "created_at": now()}
    head = {"head_seq": 0, "head_hash": GENESIS, "asked_version": 0}
    connection.execute(insert(schema.projects).values(**values, **head))


# ---- reading


def head(connection: Connection, project_id: str) -> Head:
    """The newest event as the project's row has it."""
    table = schema.projects
    query = select(table.c.head_seq, table.c.head_hash).where(table.c.project_id == project_id)
    row = connection.execute(query).one()
    return Head(int(row.head_seq), str(row.head_hash))


def newest_seq(connection: Connection, project_id: str) -> int:
    """The number of the newest event in the log itself; 0 before the first."""
    return int(connection.execute(_NEWEST_SEQ, {"project_id": project_id}).scalar() or 0)


def events(connection: Connection, project_id: str) -> list[Event]:
    """The whole log in order."""
    rows = connection.execute(_BY_SEQ, {"project_id": project_id}).mappings().fetchall()
    return [made(Event, row) for row in rows]


def event(connection: Connection, project_id: str, event_id: str) -> Event | None:
    """One event; None where there is none of this id."""
    row = connection.execute(_BY_ID, {"project_id": project_id, "event_id": event_id}).mappings().one_or_none()
    return None if row is None else made(Event, row)


def free_id(connection: Connection, project_id: str, event_id: str) -> str:
    """This id for an event that is no flag; escaped where a flag has it.

    Earlier versions took the id of a flag from the browser as it came.
    """
    taken = event(connection, project_id, event_id)
    return event_ids.escaped(event_id) if taken is not None and taken.kind == "flag" else event_id


def chain(connection: Connection, project_id: str, image_id: str, annotator_id: str) -> list[Event]:
    """What this annotator did with this image, oldest first: each event supersedes the one before. One look-up each."""
    of_image = {"project_id": project_id, "image_id": image_id, "annotator_id": annotator_id}
    row = connection.execute(_FIRST, of_image).mappings().one_or_none()
    found: list[Event] = []
    while row is not None:
        found.append(made(Event, row))
        after = {"project_id": project_id, "event_id": found[-1].event_id}
        row = connection.execute(_NEXT, after).mappings().one_or_none()
    return found


# ---- writing


def append(
    connection: Connection,
    project_id: str,
    kind: str,
    annotator_id: str | None,
    event_id: str,
    payload: dict[str, Json] | None = None,
    **fields: Any,  # Any: column values
) -> Event:
    """The next event."""
    row = {"event_id": event_id, "payload": payload or {}, **fields}
    return made(Event, append_all(connection, project_id, kind, annotator_id, [row])[0])


def append_all(
    connection: Connection,
    project_id: str,
    kind: str,
    annotator_id: str | None,
    added: Sequence[Mapping[str, Any]],  # Any: column values
) -> list[dict[str, Any]]:  # Any: as above
    """The next events, at least one; their rows. Raises BrokenLogError where the log is not as its head says."""
    before = _confirmed_head(connection, project_id)
    previous, rows = before.hash, []
    for seq, one in enumerate(added, start=before.seq + 1):
        row = _row(one, seq, kind, annotator_id)
        previous = row["hash"] = event_hash(previous, row)
        rows.append({"project_id": project_id, **row})
    connection.execute(_ADD, rows)
    moved = {"of_project": project_id, "head_seq": before.seq + len(rows), "head_hash": previous}
    connection.execute(_MOVE_HEAD, moved)
    return rows


def _confirmed_head(connection: Connection, project_id: str) -> Head:
    row = connection.execute(_HEAD, {"project_id": project_id}).one()
    newest = Head(row.newest or 0, GENESIS if row.newest is None else row.newest_hash)
    if newest != Head(row.head_seq, row.head_hash):
        raise BrokenLogError("The log does not end where its head says; nothing was stored.")
    return newest


def _row(
    one: Mapping[str, Any],  # Any: column values
    seq: int,
    kind: str,
    annotator_id: str | None,
) -> dict[str, Any]:  # Any: as above
    """All columns of an event but its project and its hash."""
    return {
        **_EMPTY,
        **one,
        "seq": seq,
        "kind": kind,
        "annotator_id": annotator_id,
        "payload": canonical_json(one["payload"]),
        "payload_version": PAYLOAD_VERSION,
        "created_at": now(),
    }
