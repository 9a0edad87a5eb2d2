"""Rows of partitions and clients bear the number of their last change, so that a copy of them reads what changed."""

import sqlalchemy as sa

from migrations.tables_in_use import add_column, create_index

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a constant column to two tables, and an index to each."""
    for table in ("partitions", "shared_clients"):
        add_column(table, sa.Column("changed", sa.BigInteger(), nullable=False, server_default="0"))
        create_index(f"ix_{table}_changed", table, ["downstream", "changed"])
