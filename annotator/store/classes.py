"""The classes to choose from: an id is a code, counted from 0 and never reused. Each is added by an event."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, bindparam, insert, select

from annotator.class_names import check_number_of_classes, checked_class_names
from annotator.errors import ConfigError
from annotator.store import event_ids, log, schema
from annotator.store.values import LabelClass

_table = schema.classes
_ALL = select(_table).where(_table.c.project_id == bindparam("project_id")).order_by(_table.c.class_id)
_RETIRED = select(_table.c.retired_at).where(
    _table.c.project_id == bindparam("project_id"), _table.c.class_id == bindparam("class_id")
)
_OFFERED = select(_table.c.class_id).where(
    _table.c.project_id == bindparam("project_id"), _table.c.name == bindparam("name"), _table.c.retired_at.is_(None)
)


def classes(connection: Connection, project_id: str) -> list[LabelClass]:
    """Every class by id."""
    rows = connection.execute(_ALL, {"project_id": project_id}).fetchall()
    return [LabelClass(row.class_id, row.name, row.retired_at is not None) for row in rows]


def offered_id(connection: Connection, project_id: str, name: str) -> int:
    """The id of the class of this name. Raises ConfigError where there is none, or it was retired."""
    class_id = connection.execute(_OFFERED, {"project_id": project_id, "name": name}).scalar_one_or_none()
    if class_id is None:
        offered = (known.name for known in classes(connection, project_id) if not known.retired)
        raise ConfigError(f"No class {name!r}. Choose from: {', '.join(offered)}; or add it first.")
    return int(class_id)


def check_offered(connection: Connection, project_id: str, class_id: int | None) -> None:
    """Raises ConfigError (CLASS_UNKNOWN) for a class that does not exist or was retired."""
    row = connection.execute(_RETIRED, {"project_id": project_id, "class_id": class_id}).one_or_none()
    if row is None or row.retired_at is not None:
        raise ConfigError("That class is not offered any more; choose another.", "CLASS_UNKNOWN")


def offered(connection: Connection, project_id: str, name: str) -> LabelClass:
    """The class of this name. Raises ConfigError where none that is offered has it."""
    known = [label_class for label_class in classes(connection, project_id) if not label_class.retired]
    for label_class in known:
        if label_class.name == name:
            return label_class
    choices = ", ".join(label_class.name for label_class in known)
    raise ConfigError(f"No class {name!r}. Choose from: {choices}; or add it first.")


def add(
    connection: Connection,
    project_id: str,
    names: Sequence[str],
    annotator_id: str | None = None,
    own: Collection[str] = (),
) -> None:
    """Add classes in this order, each an event.

    Raises ConfigError as `checked_class_names` does, and for more than `MOST_CLASSES` (CLASS_TOO_MANY).
    """
    taken = [known.name for known in classes(connection, project_id)]
    added = list(enumerate(checked_class_names(names, taken, own), start=len(taken)))
    check_number_of_classes(len(taken) + len(added))
    if not added:
        return
    events = [
        {
            "event_id": log.free_id(connection, project_id, event_ids.class_added(class_id)),
            "class_id": class_id,
            "payload": {"action": "add", "name": name},
        }
        for class_id, name in added
    ]
    log.append_all(connection, project_id, "class", annotator_id, events)
    fixed = {"project_id": project_id, "created_at": log.now()}
    connection.execute(insert(_table), [{"class_id": class_id, "name": name, **fixed} for class_id, name in added])
