"""How many calls the clients of a shared downstream, and a client's partitions, would make before one of them."""

import sqlalchemy as sa
from alembic import op

from migrations.tables_in_use import tune_storage

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a table."""
    op.create_table(
        "partition_samples",
        sa.Column("downstream", sa.String(100), nullable=False),
        sa.Column("client", sa.String(40), nullable=False),
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
        sa.Column("crowd", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["downstream"],
            ["downstreams.name"],
            name=op.f("fk_partition_samples_downstream_downstreams"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("downstream", "client", name=op.f("pk_partition_samples")),
    )
    tune_storage("partition_samples", fillfactor=50, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=500)
