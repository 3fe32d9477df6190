"""Who labels: each annotator with a number that never changes."""

from __future__ import annotations

import uuid
from dataclasses import asdict

from sqlalchemy import Connection, func, insert, select

from annotator.store import schema
from annotator.store.log import now
from annotator.store.values import Annotator, made

_table = schema.annotators


def named(connection: Connection, project_id: str, name: str) -> Annotator | None:
    """The annotator of this name; None where there is none yet."""
    query = select(_table).where(_table.c.project_id == project_id, _table.c.name == name)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else made(Annotator, row)


def named_or_added(connection: Connection, project_id: str, name: str, role: str = "annotator") -> Annotator:
    """The annotator of this name, added with the next number when new."""
    found = named(connection, project_id, name)
    if found is not None:
        return found
    counted = select(func.count()).select_from(_table).where(_table.c.project_id == project_id)
    number = 1 + connection.execute(counted).scalar_one()
    added = Annotator(uuid.uuid4().hex, number, name, role)
    connection.execute(insert(_table).values(project_id=project_id, created_at=now(), **asdict(added)))
    return added
