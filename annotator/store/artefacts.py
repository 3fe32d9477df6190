"""What was made from the log: the models, each with what it was trained on and what was measured."""

from __future__ import annotations

import json

from sqlalchemy import Connection, insert, select

from annotator.store import schema
from annotator.store.log import canonical_json, now
from annotator.store.values import ModelRecord, made

_table = schema.models


def record_model(connection: Connection, project_id: str, record: ModelRecord) -> None:
    """Store what a fit was trained on and what was measured; a version that is known stays."""
    known = select(_table.c.version).where(_table.c.project_id == project_id, _table.c.version == record.version)
    if connection.execute(known).first() is None:
        values = vars(record) | {"metrics": canonical_json(record.metrics), "status": "ready", "created_at": now()}
        connection.execute(insert(_table).values(project_id=project_id, **values))


def models(connection: Connection, project_id: str) -> list[ModelRecord]:
    """Every fit by version."""
    query = select(_table).where(_table.c.project_id == project_id).order_by(_table.c.version)
    rows = connection.execute(query).mappings().fetchall()
    return [made(ModelRecord, dict(row) | {"metrics": json.loads(row["metrics"])}) for row in rows]
