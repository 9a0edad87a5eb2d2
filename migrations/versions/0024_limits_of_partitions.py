"""A partition rests by itself where its downstream refuses by partition, and says which limits of its own hold it."""

import sqlalchemy as sa

from migrations.tables_in_use import add_column

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns that are null, or constant, for every row."""
    for name in ("next_slot_at", "rests_until"):
        add_column("partitions", sa.Column(name, sa.BigInteger()))
    add_column("partitions", sa.Column("most_open", sa.Integer()))
    add_column("partitions", sa.Column("refusals", sa.Integer(), nullable=False, server_default="0"))
    add_column("partitions", sa.Column("announced", sa.Text()))
    add_column("partitions", sa.Column("released", sa.BigInteger(), nullable=False, server_default="0"))
