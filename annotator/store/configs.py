"""The project's configuration: every change is an event with a version, counted from 1."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select

from annotator.store import event_ids, log, schema
from annotator.store.values import Json

_table = schema.configs


def record(connection: Connection, project_id: str, config: dict[str, Json], annotator_id: str | None = None) -> int:
    """Store a new configuration; returns its version."""
    counted = select(func.count()).select_from(_table).where(_table.c.project_id == project_id)
    version = 1 + connection.execute(counted).scalar_one()
    event_id = log.free_id(connection, project_id, event_ids.config_stored(version))
    payload = {"version": version, "config": config}
    event = log.append(connection, project_id, "config", annotator_id, event_id, payload)
    row = {"version": version, "seq": event.seq, "config": log.canonical_json(config), "created_at": event.created_at}
    connection.execute(insert(_table).values(project_id=project_id, **row))
    return version
