"""Whether a project's file still says what was stored: the log's hash chain, and every table held against the log.

Knows rows and hashes; no images and no arrays. Each finding is one sentence, none means that all is well.

`quick` looks at every opening, in milliseconds: head against newest event, number of events, classes and configurations
against the events that made them, the newest model against the log. `whole` looks before an export and for
`annotator verify`: also SQLite's own check, every number and hash of the log, every event's question, image and person,
and every question that counts as answered. `against_export` holds the log against what an export recorded of it.

Seen: an event that was changed, removed, added or moved; a head that was moved; a class that was renamed, added or
removed without an event; a configuration that was changed; an answered question whose image or person was changed, and,
where its answer was stored with a digest of what was asked (`asked_digest`), whose guess, purpose or origin was.

Not seen: names of people, the content hashes of images and what the models were measured to reach, which no event
holds; a question before its first answer, which decides only what is asked next, since an answer holds the image that
was on the screen; the origin of questions answered before answers held that digest; and whoever rewrites events, hashes
and head together with all that refers to them. Against the last an export helps that was kept elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from sqlalchemy import Connection, and_, func, select

from annotator.errors import StoreError
from annotator.paths import name_of
from annotator.store import event_ids, schema
from annotator.store.log import CHUNK, GENESIS, MOST_AT_ONCE, event_hash
from annotator.store.questions import asked_digest

MOST_SAID = 5
"""Findings of one kind that are told one by one."""
NOT_AS_LEFT = "This project is not as it was left"
"""What its findings stand under."""
ADVICE = (
    "Restore the project's folder from a backup of before. Until then nothing new is stored in it; what was answered "
    "can be looked at and exported, and the export's manifest says what is wrong."
)
LAST_CODE = 1_000_000
"""A class id above it was never given out."""
Row = Any  # column values by name: SQLAlchemy's RowMapping, or a dict


@contextmanager
def typed() -> Iterator[None]:
    """What stands in a damaged file can have any type: where that stops the reading it is a StoreError."""
    try:
        yield
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise StoreError(f"The label store holds what cannot be read ({error}). {ADVICE}", "STORE_DAMAGED") from error


@typed()
def quick(connection: Connection, project_id: str) -> list[str]:
    """Findings that cost milliseconds, however long the log."""
    found = [_head(connection, project_id), _models(connection, project_id)]
    lines = [sentence for sentence in found if sentence]
    return [*lines, *_few(_classes(connection, project_id)), *_few(_configs(connection, project_id))]


@typed()
def whole(connection: Connection, project_id: str) -> list[str]:
    """Every finding; reads the whole log once."""
    return [
        *quick(connection, project_id),
        *_few(_file(connection)),
        *_few(_links(connection, project_id)),
        *_few(_answers(connection, project_id)),
        *_few(_unanswered(connection, project_id)),
    ]


@typed()
def against_export(connection: Connection, project_id: str, provenance: Row) -> list[str]:
    """Whether the log still holds what it held when an export was written."""
    if provenance.get("project_id", project_id) != project_id:
        return ["The export is of another project."]
    seq = provenance.get("store_head_seq")
    if type(seq) is not int:
        return ["The export's manifest does not say which event was the newest: it is damaged, or no manifest."]
    event = schema.events
    query = select(event.c.hash).where(event.c.project_id == project_id, event.c.seq == seq)
    now = connection.execute(query).scalar() if seq else GENESIS
    if now is None:
        newest = connection.execute(select(func.max(event.c.seq)).where(event.c.project_id == project_id)).scalar() or 0
        return [f"The log ended at event {seq} when the export was written, and ends at {newest} now."]
    if provenance.get("store_head_hash", now) != now:
        return [f"Event {seq} is not the one that was the newest when the export was written."]
    return []


def broken_links(connection: Connection, project_id: str) -> list[int]:
    """Numbers of the events whose stored values do not give their hash."""
    broken, previous = [], GENESIS
    for row in _events(connection, project_id):
        if row["hash"] != _hash_or_none(event_hash, previous, row):
            broken.append(int(row["seq"]))
        previous = row["hash"]
    return broken


@typed()
def class_names(connection: Connection, project_id: str) -> list[str]:
    """Names by class id as the log has them, for a project whose table of classes may be wrong.

    A class that only the table knows is called as there; one that only answers know is called by its number.
    """
    table, event = schema.classes, schema.events
    mine = event.c.project_id == project_id
    rows = connection.execute(select(table.c.class_id, table.c.name).where(table.c.project_id == project_id)).fetchall()
    names = {int(row.class_id): str(row.name) for row in rows}
    added = select(event.c.class_id, event.c.payload).where(mine, event.c.kind == "class").order_by(event.c.seq)
    for row in connection.execute(added).mappings().fetchall():
        names[int(row["class_id"])] = str(_payload(row).get("name", f"class {row['class_id']}"))
    given = connection.execute(select(func.max(event.c.class_id)).where(mine)).scalar()
    last = max([*names, given or 0])
    if last > LAST_CODE:
        raise StoreError(f"The log speaks of class {last}, which cannot be. {ADVICE}", "STORE_DAMAGED")
    return [names.get(code, f"class {code}") for code in range(1 + last)]


@typed()
def configs(connection: Connection, project_id: str) -> dict[int, dict[str, Any]]:  # Any: JSON
    """Configurations by version as the log has them, for a project whose table of them may be wrong."""
    table, event = schema.configs, schema.events
    rows = connection.execute(select(table).where(table.c.project_id == project_id)).mappings().fetchall()
    known = {int(row["version"]): _parsed(row["config"]) for row in rows}
    stored = select(event.c.payload).where(event.c.project_id == project_id, event.c.kind == "config")
    for row in connection.execute(stored.order_by(event.c.seq)).mappings().fetchall():
        payload = _payload(row)
        if type(payload.get("version")) is int:
            known[payload["version"]] = payload.get("config")
    return {version: config for version, config in sorted(known.items()) if isinstance(config, dict)}


# ---- the quick form


def _head(connection: Connection, project_id: str) -> str:
    project, event = schema.projects, schema.events
    mine = event.c.project_id == project_id
    head = connection.execute(
        select(project.c.head_seq, project.c.head_hash).where(project.c.project_id == project_id)
    ).one()
    newest = connection.execute(select(event.c.seq, event.c.hash).where(mine).order_by(event.c.seq.desc()).limit(1))
    seq, hashed = newest.one_or_none() or (0, GENESIS)
    if seq < head.head_seq:
        return (
            f"The log ends at event {seq}, and {head.head_seq} were stored: the newest {head.head_seq - seq} are gone."
        )
    if seq > head.head_seq:
        return f"The log goes on to event {seq}, behind its head {head.head_seq}."
    n_events = connection.execute(select(func.count()).select_from(event).where(mine)).scalar_one()
    if n_events != seq:
        return f"The log ends at event {seq}, and {n_events} are there: some are gone, or numbered wrongly."
    return "" if hashed == head.head_hash else f"The head's hash is not that of the newest event, {seq}."


def _models(connection: Connection, project_id: str) -> str:
    model, project = schema.models, schema.projects
    newest = select(model.c.trained_through).where(model.c.project_id == project_id)
    seen = connection.execute(newest.order_by(model.c.version.desc()).limit(1)).scalar() or 0
    head = connection.execute(select(project.c.head_seq).where(project.c.project_id == project_id)).scalar_one()
    return f"The newest model has learned from event {seen}, and the log ends at {head}." if seen > head else ""


def _classes(connection: Connection, project_id: str) -> Iterator[str]:
    table = schema.classes
    query = select(table).where(table.c.project_id == project_id)
    rows = {int(row["class_id"]): row for row in connection.execute(query).mappings().fetchall()}
    codes = sorted({*rows, *range(len(rows) + 1)})
    added = _by_event_id(connection, project_id, map(event_ids.class_added, codes), "class")
    for code in codes:
        row, event = rows.get(code), added.get(event_ids.class_added(code))
        name = None if event is None else _payload(event).get("name")
        if row is None and event is not None:
            yield f"Class {code} was added as {name!r}, and is gone from the table of classes."
        elif row is not None and event is None:
            yield f"Class {code}, {row['name']!r}, was added by no event."
        elif row is not None and row["name"] != name:
            yield f"Class {code} was added as {name!r}, and is called {row['name']!r} now."
        elif row is not None and (row["retired_at"] is not None):
            yield f"Class {code}, {name!r}, was retired by no event."


def _configs(connection: Connection, project_id: str) -> Iterator[str]:
    table = schema.configs
    query = select(table).where(table.c.project_id == project_id)
    rows = {int(row["version"]): row for row in connection.execute(query).mappings().fetchall()}
    versions = sorted({*rows, *range(1, len(rows) + 2)})
    stored = _by_event_id(connection, project_id, map(event_ids.config_stored, versions), "config")
    for version in versions:
        row, event = rows.get(version), stored.get(event_ids.config_stored(version))
        if row is None and event is not None:
            yield f"Configuration {version} is in the log, and gone from the table."
        elif row is not None and event is None:
            yield f"Configuration {version} was stored by no event."
        elif row is not None and event is not None and not _same_config(row, event):
            yield f"Configuration {version} is not the one that event {event['seq']} stored."


def _same_config(row: Row, event: Row) -> bool:
    return bool(row["seq"] == event["seq"] and _parsed(row["config"]) == _payload(event).get("config"))


# ---- the whole form


def _file(connection: Connection) -> Iterator[str]:
    """What SQLite says of its pages and indices."""
    if connection.dialect.name == "sqlite":
        said = (str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check").fetchall())
        yield from (f"SQLite says: {words}." for words in said if words != "ok")


def _links(connection: Connection, project_id: str) -> Iterator[str]:
    for seq in broken_links(connection, project_id):
        yield f"Event {seq} is not what was stored: its values, or the event before it, do not give its hash."


def _answers(connection: Connection, project_id: str) -> Iterator[str]:
    """Every event that answers, undoes or flags, held against its question, image and person."""
    people = set(_column(connection, schema.annotators.c.annotator_id, project_id))
    expected = 0
    for rows in _batched(_events(connection, project_id)):
        questions = _by_id(connection, schema.questions.c.question_id, project_id, [row["question_id"] for row in rows])
        images = _by_id(connection, schema.images.c.image_id, project_id, [row["image_id"] for row in rows])
        for row in rows:
            expected += 1
            if row["seq"] != expected:
                yield f"Event {expected} is missing; {row['seq']} comes next."
                expected = row["seq"]
            if row["annotator_id"] is not None and row["annotator_id"] not in people:
                yield f"Event {row['seq']} is of a person who is gone from the table of people."
            if row["image_id"] is not None and row["image_id"] not in images:
                yield f"Event {row['seq']} is on {_told(row['image_id'])}, which is gone from the table of images."
            if row["question_id"] is not None:
                yield from _answer(row, questions.get(row["question_id"]))


def _answer(row: Row, question: Row | None) -> Iterator[str]:
    if question is None:
        yield f"Event {row['seq']} answers a question that is gone from the table of questions."
        return
    payload = _payload(row)
    image_id = row["image_id"] if row["kind"] != "flag" else payload.get("image_id")
    if question["image_id"] != image_id:
        about = _told(question["image_id"])
        yield f"Event {row['seq']} is on {_told(image_id)}, and its question asks about {about} now."
    elif question["annotator_id"] != row["annotator_id"]:
        yield f"Event {row['seq']} answers a question that was asked of somebody else."
    elif payload.get("asked") not in (None, _hash_or_none(asked_digest, question)):
        yield f"The question of event {row['seq']}, on {_told(image_id)}, is not as it was when it was answered."


def _unanswered(connection: Connection, project_id: str) -> Iterator[str]:
    """Questions that refer to events which the log does not have."""
    table, event = schema.questions, schema.events
    first = and_(event.c.project_id == table.c.project_id, event.c.event_id == table.c.question_id + ".0")
    mine, answered = table.c.project_id == project_id, table.c.closed_by == "answer"
    missing = select(table.c.image_id).where(mine, answered, ~select(event.c.seq).where(first).exists())
    for image_id in connection.execute(missing.order_by(table.c.round, table.c.rank)).scalars().fetchall():
        yield f"The question on {_told(image_id)} counts as answered, and the log has no answer to it."
    head = select(schema.projects.c.head_seq).where(schema.projects.c.project_id == project_id).scalar_subquery()
    later = connection.execute(select(func.max(table.c.chosen_at_seq)).where(mine, table.c.chosen_at_seq > head))
    seq = later.scalar()
    if seq is not None:
        yield f"A question was chosen by what was known at event {seq}, which the log does not have."


# ---- reading


def _events(connection: Connection, project_id: str) -> Iterator[Row]:
    table = schema.events
    query = select(table).where(table.c.project_id == project_id).order_by(table.c.seq).limit(CHUNK)
    rows: Sequence[Row] = connection.execute(query).mappings().fetchall()
    while rows:
        yield from rows
        rows = connection.execute(query.where(table.c.seq > rows[-1]["seq"])).mappings().fetchall()


def _batched(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == MOST_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _by_event_id(connection: Connection, project_id: str, wanted: Iterable[str], kind: str) -> dict[str, Row]:
    """Events of this kind by the ids they should have; one whose id a flag has taken has it escaped."""
    ids = [variant for one in wanted for variant in event_ids.variants(one)]
    found = _by_id(connection, schema.events.c.event_id, project_id, ids)
    return {event_ids.unescaped(event_id): row for event_id, row in found.items() if row["kind"] == kind}


def _by_id(
    connection: Connection,
    key: Any,  # Any: SQLAlchemy's column
    project_id: str,
    ids: Sequence[str | None],
) -> dict[str, Row]:
    """Rows of the key's table by that key; looked up by an index, some hundreds in a query."""
    wanted = list(dict.fromkeys(one for one in ids if one is not None))
    rows: dict[str, Row] = {}
    for start in range(0, len(wanted), MOST_AT_ONCE):
        some = select(key.table).where(
            key.table.c.project_id == project_id, key.in_(wanted[start : start + MOST_AT_ONCE])
        )
        rows |= {row[key.name]: row for row in connection.execute(some).mappings().fetchall()}
    return rows


def payload_of(text: Any) -> dict[str, Any]:  # Any: what stands in a column of text; JSON
    """What an event carries; empty where that is damaged."""
    payload = _parsed(text)
    return payload if isinstance(payload, dict) else {}


def _payload(event: Row) -> dict[str, Any]:  # Any: JSON
    return payload_of(event["payload"])


def _parsed(text: Any) -> Any:  # Any: what stands in a column of text; JSON
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return None


def _hash_or_none(hashed: Callable[..., str], *values: Any) -> str | None:  # Any: its arguments
    """None where values of a type stand in the file that were never stored, such as bytes."""
    try:
        return hashed(*values)
    except (TypeError, ValueError):
        return None


def _column(connection: Connection, column: Any, project_id: str) -> Iterable[Any]:  # Any: SQLAlchemy's column
    return connection.execute(select(column).where(column.table.c.project_id == project_id)).scalars().fetchall()


def _told(image_id: Any) -> str:  # Any: what stands in a column of ids, or in a payload
    """An image as people know it, in quotes."""
    return repr(name_of(image_id) if isinstance(image_id, str) else image_id)


def _few(sentences: Iterable[str]) -> list[str]:
    """The first ones, and how many more there are: a thousand sentences say no more than five."""
    left = iter(sentences)
    told, more = list(islice(left, MOST_SAID)), sum(1 for _ in left)
    return [*told, f"... and {more:,} more of this kind."] if more else told
