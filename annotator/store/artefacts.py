"""What was made from the log: the models, each with what it was trained on and what was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, and_, func, insert, select, update

from annotator.store import schema
from annotator.store.log import canonical_json, now
from annotator.store.values import ModelRecord, made

_table = schema.models
_TRAINED_ON = ("trained_through", "dataset_version", "config_version")


def record_model(connection: Connection, project_id: str, record: ModelRecord) -> ModelRecord:
    """Store what a fit was trained on and what was measured; returns it with the version that it got.

    The same fit stays as it is stored. Another fit of that version, of a second process, makes this the next version.
    """
    mine = _table.c.project_id == project_id
    known = connection.execute(select(_table).where(mine, _table.c.version == record.version)).mappings().first()
    if known is not None and all(known[key] == vars(record)[key] for key in _TRAINED_ON):
        return record
    if known is not None:
        newest = connection.execute(select(func.max(_table.c.version)).where(mine)).scalar_one()
        record = replace(record, version=newest + 1)
    values = vars(record) | {"metrics": canonical_json(record.metrics), "status": "ready", "created_at": now()}
    connection.execute(insert(_table).values(project_id=project_id, **values))
    return record


def models(connection: Connection, project_id: str) -> list[ModelRecord]:
    """Every fit by version."""
    query = select(_table).where(_table.c.project_id == project_id).order_by(_table.c.version)
    rows = connection.execute(query).mappings().fetchall()
    return [made(ModelRecord, dict(row) | {"metrics": json.loads(row["metrics"])}) for row in rows]


def newest_files(connection: Connection, project_id: str, n: int) -> list[tuple[int, str]]:
    """(version, SHA-256) of the newest models whose predictions were written."""
    query = select(_table.c.version, _table.c.sha256).where(_table.c.project_id == project_id)
    newest = query.where(_table.c.sha256.is_not(None)).order_by(_table.c.version.desc()).limit(n)
    return [(row.version, row.sha256) for row in connection.execute(newest).fetchall()]


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
