"""A question keeps the reason for which its image was picked.

One column, empty in the questions that are there. Events are not touched: the hash chain stays as it is.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """There is no way down, since nothing deletes labels."""
    op.add_column("questions", sa.Column("reason", sa.Text))
