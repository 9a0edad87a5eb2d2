"""Inputs keep the headers of their submits that go along to the downstream."""

import sqlalchemy as sa

from migrations.tables_in_use import add_column

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column that is null where none are passed on; a process of an earlier version passes none."""
    add_column("bodies", sa.Column("headers", sa.Text()))
