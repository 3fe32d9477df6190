"""What was made from the log: the models, each with what it was trained on and what was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, insert, select, update

from annotator.store import schema
from annotator.store.log import canonical_json, now
from annotator.store.values import ModelRecord, made

_table = schema.models
_KNOWN = select(_table.c.version).where(
    _table.c.project_id == bindparam("project_id"), _table.c.version == bindparam("version")
)
_ADD = insert(_table)


def record_model(connection: Connection, project_id: str, record: ModelRecord) -> None:
    """Store what a fit was trained on and what was measured; a version that is known stays."""
    this = {"project_id": project_id, "version": record.version}
    if connection.execute(_KNOWN, this).first() is None:
        values = vars(record) | {"metrics": canonical_json(record.metrics), "status": "ready", "created_at": now()}
        connection.execute(_ADD, this | values)


def models(connection: Connection, project_id: str) -> list[ModelRecord]:
    """Every fit by version."""
    query = select(_table).where(_table.c.project_id == project_id).order_by(_table.c.version)
    rows = connection.execute(query).mappings().fetchall()
    return [made(ModelRecord, dict(row) | {"metrics": json.loads(row["metrics"])}) for row in rows]


def record_prediction(
    connection: Connection, project_id: str, record: ModelRecord, sha256: str, kept: Sequence[int]
) -> None:
    """Note that there is a file of this model's prediction, and of which versions files are kept.

    A model's `status` is "kept" while there is a file of its prediction, else "ready". Another model's record of the
    same version is left as it is.
    """
    mine = _table.c.project_id == project_id
    this = and_(*(_table.c[key] == value for key, value in vars(record).items() if key not in ("metrics", "sha256")))
    connection.execute(update(_table).where(mine, this).values(sha256=sha256, status="kept"))
    gone = and_(_table.c.status == "kept", _table.c.version.not_in(kept))
    connection.execute(update(_table).where(mine, gone).values(status="ready"))
