"""Downstreams say how much the way to them varies; workers, how well they know the database's clock."""

import sqlalchemy as sa

from migrations.tables_in_use import add_column

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column to each; a process of an earlier version leaves them at zero."""
    add_column("downstreams", sa.Column("jitter", sa.Integer(), nullable=False, server_default="0"))
    add_column("workers", sa.Column("clock_error", sa.Integer(), nullable=False, server_default="0"))
