"""The images of the pool, and those that were set aside with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from sqlalchemy import Connection, func, insert, select

from annotator.store import log, schema
from annotator.store.values import ImageRecord, made

_table = schema.images


def add(connection: Connection, project_id: str, records: Iterable[ImageRecord]) -> None:
    """Register the pool and what was set aside; images that are known already stay as they are."""
    known = set(connection.execute(select(_table.c.image_id).where(_table.c.project_id == project_id)).scalars())
    fresh = ({"project_id": project_id, **vars(record)} for record in records if record.image_id not in known)
    while rows := list(islice(fresh, log.CHUNK)):
        connection.execute(insert(_table), rows)


def records(connection: Connection, project_id: str, status: str | None = None) -> list[ImageRecord]:
    """Every image in row order, those set aside last; or only those of one status."""
    query = select(_table).where(_table.c.project_id == project_id)
    query = query.order_by(_table.c.row.is_(None), _table.c.row, _table.c.image_id)
    if status is not None:
        query = query.where(_table.c.status == status)
    return [made(ImageRecord, row) for row in connection.execute(query).mappings().fetchall()]


def ids_after(connection: Connection, project_id: str, row: int) -> Sequence[tuple[int, str]]:
    """(row, image id) of the next images of the pool behind this row, `CHUNK` at most."""
    query = select(_table.c.row, _table.c.image_id).where(_table.c.project_id == project_id, _table.c.row > row)
    found = connection.execute(query.order_by(_table.c.row).limit(log.CHUNK)).fetchall()
    return [(int(one.row), str(one.image_id)) for one in found]


def count(connection: Connection, project_id: str) -> int:
    """How many images the pool has."""
    query = select(func.count()).select_from(_table).where(_table.c.project_id == project_id, _table.c.row.is_not(None))
    return connection.execute(query).scalar_one()
