"""The first schema: projects, annotators, classes, images, questions, events, models, configs, jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table; there is no way down, since nothing deletes labels."""
    _create_people_and_classes()
    _create_images_and_questions()
    _create_events()
    _create_provenance()


def _create_people_and_classes() -> None:
    op.create_table(
        "projects",
        sa.Column("project_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("head_seq", sa.BigInteger, nullable=False),
        sa.Column("head_hash", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("archived_at", sa.Text),
    )
    op.create_table(
        "annotators",
        sa.Column("project_id", sa.Text, sa.ForeignKey("projects.project_id"), primary_key=True),
        sa.Column("annotator_id", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("disabled_at", sa.Text),
        sa.UniqueConstraint("project_id", "number", name="one_number_an_annotator"),
        sa.UniqueConstraint("project_id", "name", name="one_name_an_annotator"),
    )
    op.create_table(
        "classes",
        sa.Column("project_id", sa.Text, sa.ForeignKey("projects.project_id"), primary_key=True),
        sa.Column("class_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("retired_at", sa.Text),
        sa.Column("merged_into", sa.Integer),
        sa.UniqueConstraint("project_id", "name", name="one_class_a_name"),
    )


def _create_images_and_questions() -> None:
    op.create_table(
        "images",
        sa.Column("project_id", sa.Text, sa.ForeignKey("projects.project_id"), primary_key=True),
        sa.Column("image_id", sa.Text, primary_key=True),
        sa.Column("row", sa.Integer),
        sa.Column("content_sha256", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.UniqueConstraint("project_id", "row", name="one_image_a_row"),
    )
    op.create_table(
        "questions",
        sa.Column("project_id", sa.Text, sa.ForeignKey("projects.project_id"), primary_key=True),
        sa.Column("question_id", sa.Text, primary_key=True),
        sa.Column("annotator_id", sa.Text, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("image_id", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("strategy_version", sa.Text, nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("propensity", sa.Float),
        sa.Column("guess", sa.Integer),
        sa.Column("guess_probability", sa.Float),
        sa.Column("guess_entropy", sa.Float),
        sa.Column("guess_visible", sa.Boolean, nullable=False),
        sa.Column("model_version", sa.Integer),
        sa.Column("config_version", sa.Integer, nullable=False),
        sa.Column("chosen_at_seq", sa.BigInteger, nullable=False),
        sa.Column("lease_slot", sa.Integer, nullable=False),
        sa.Column("lease_expires_at", sa.Text),
        sa.Column("offered_at", sa.Text, nullable=False),
        sa.Column("shown_at", sa.Text),
        sa.Column("closed_at", sa.Text),
        sa.Column("closed_by", sa.Text),
    )
    op.create_index(
        "one_question_a_place",
        "questions",
        ["project_id", "round", "rank"],
        unique=True,
        sqlite_where=sa.text("closed_by IS NULL OR closed_by <> 'withdrawn'"),
        postgresql_where=sa.text("closed_by IS NULL OR closed_by <> 'withdrawn'"),
    )
    op.create_index(
        "one_live_lease",
        "questions",
        ["project_id", "image_id", "lease_slot"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_index("questions_by_annotator", "questions", ["project_id", "annotator_id", "closed_at"])


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("project_id", sa.Text, sa.ForeignKey("projects.project_id"), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("annotator_id", sa.Text),
        sa.Column("image_id", sa.Text),
        sa.Column("class_id", sa.Integer),
        sa.Column("outcome", sa.Text),
        sa.Column("question_id", sa.Text),
        sa.Column("supersedes", sa.Text),
        sa.Column("undoes", sa.Text),
        sa.Column("client_ms", sa.BigInteger),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("payload_version", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.UniqueConstraint("project_id", "event_id", name="one_event_an_id"),
        sa.UniqueConstraint("project_id", "supersedes", name="one_successor_an_event"),
        sa.UniqueConstraint("project_id", "undoes", name="one_undo_an_event"),
    )
    op.create_index(
        "one_first_answer",
        "events",
        ["project_id", "image_id", "annotator_id"],
        unique=True,
        sqlite_where=sa.text("image_id IS NOT NULL AND supersedes IS NULL"),
        postgresql_where=sa.text("image_id IS NOT NULL AND supersedes IS NULL"),
    )
    op.create_index("events_by_annotator", "events", ["project_id", "annotator_id", "seq"])


def _create_provenance() -> None:
    op.create_table(
        "configs",
        sa.Column("project_id", sa.Text, sa.ForeignKey("projects.project_id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "models",
        sa.Column("project_id", sa.Text, sa.ForeignKey("projects.project_id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("trained_through", sa.BigInteger, nullable=False),
        sa.Column("dataset_version", sa.Text, nullable=False),
        sa.Column("config_version", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("project_id", sa.Text, sa.ForeignKey("projects.project_id"), primary_key=True),
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("closed_at", sa.Text),
    )
