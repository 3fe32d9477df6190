"""Rounds are numbered for each annotator, what is asked has a version, and what nothing used is gone.

The whole of it is one transaction, so a migration that is cut off has changed nothing. Events are not touched: the hash
chain stays as it is.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """There is no way down, since nothing deletes labels."""
    op.add_column("projects", sa.Column("asked_version", sa.BigInteger, nullable=False, server_default="0"))
    _rank_within_an_annotators_round()
    op.drop_column("projects", "archived_at")
    op.drop_column("annotators", "disabled_at")
    op.drop_column("classes", "merged_into")
    op.drop_table("jobs")


def _rank_within_an_annotators_round() -> None:
    kept = sa.text("closed_by IS NULL OR closed_by <> 'withdrawn'")
    op.drop_index("one_question_a_place", "questions")
    op.create_index(
        "one_question_a_place",
        "questions",
        ["project_id", "annotator_id", "round", "rank"],
        unique=True,
        sqlite_where=kept,
        postgresql_where=kept,
    )
