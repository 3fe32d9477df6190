"""The store's tables as SQLAlchemy names them. The migrations create them; a test holds the two against each other."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()


def _owned(name: str, *columns: Column[object] | UniqueConstraint | Index) -> Table:
    """A table whose key starts with the project."""
    project = Column("project_id", Text, ForeignKey("projects.project_id"), primary_key=True)
    return Table(name, metadata, project, *columns)


def _partial(name: str, condition: str, *columns: str) -> Index:
    return Index(name, *columns, unique=True, sqlite_where=text(condition), postgresql_where=text(condition))


projects = Table(
    "projects",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("head_seq", BigInteger, nullable=False),
    Column("head_hash", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("asked_version", BigInteger, nullable=False, server_default="0"),
)
annotators = _owned(
    "annotators",
    Column("annotator_id", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    UniqueConstraint("project_id", "number", name="one_number_an_annotator"),
    UniqueConstraint("project_id", "name", name="one_name_an_annotator"),
)
classes = _owned(
    "classes",
    Column("class_id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("retired_at", Text),
    UniqueConstraint("project_id", "name", name="one_class_a_name"),
)
images = _owned(
    "images",
    Column("image_id", Text, primary_key=True),
    Column("row", Integer),
    Column("content_sha256", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    UniqueConstraint("project_id", "row", name="one_image_a_row"),
)
questions = _owned(
    "questions",
    Column("question_id", Text, primary_key=True),
    Column("annotator_id", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("image_id", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("strategy_version", Text, nullable=False),
    Column("score", Float),
    Column("reason", Text),
    Column("propensity", Float),
    Column("guess", Integer),
    Column("guess_probability", Float),
    Column("guess_entropy", Float),
    Column("guess_visible", Boolean, nullable=False),
    Column("model_version", Integer),
    Column("config_version", Integer, nullable=False),
    Column("chosen_at_seq", BigInteger, nullable=False),
    Column("lease_slot", Integer, nullable=False),
    Column("lease_expires_at", Text),
    Column("offered_at", Text, nullable=False),
    Column("shown_at", Text),
    Column("closed_at", Text),
    Column("closed_by", Text),
    _partial(
        "one_question_a_place",
        "closed_by IS NULL OR closed_by <> 'withdrawn'",
        "project_id",
        "annotator_id",
        "round",
        "rank",
    ),
    _partial("one_live_lease", "closed_at IS NULL", "project_id", "image_id", "lease_slot"),
    Index("questions_by_annotator", "project_id", "annotator_id", "closed_at"),
)
events = _owned(
    "events",
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("annotator_id", Text),
    Column("image_id", Text),
    Column("class_id", Integer),
    Column("outcome", Text),
    Column("question_id", Text),
    Column("supersedes", Text),
    Column("undoes", Text),
    Column("client_ms", BigInteger),
    Column("payload", Text, nullable=False),
    Column("payload_version", Integer, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("hash", Text, nullable=False),
    UniqueConstraint("project_id", "event_id", name="one_event_an_id"),
    UniqueConstraint("project_id", "supersedes", name="one_successor_an_event"),
    UniqueConstraint("project_id", "undoes", name="one_undo_an_event"),
    _partial(
        "one_first_answer",
        "image_id IS NOT NULL AND supersedes IS NULL",
        "project_id",
        "image_id",
        "annotator_id",
    ),
    Index("events_by_annotator", "project_id", "annotator_id", "seq"),
)
configs = _owned(
    "configs",
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("config", Text, nullable=False),
    Column("created_at", Text, nullable=False),
)
models = _owned(
    "models",
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("trained_through", BigInteger, nullable=False),
    Column("dataset_version", Text, nullable=False),
    Column("config_version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("sha256", Text),
    Column("metrics", Text, nullable=False),
    Column("created_at", Text, nullable=False),
)
