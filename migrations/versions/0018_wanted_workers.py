"""How many workers of each queue are wanted, for whoever starts and stops them."""

import sqlalchemy as sa
from alembic import op

from migrations.tables_in_use import tune_storage

revision = "0018"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a table that a process of an earlier version does not know: a few rows, written each second under load."""
    op.create_table(
        "wanted_workers",
        sa.Column("queue", sa.String(100), nullable=False),
        sa.Column("places_each", sa.Integer(), nullable=True),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("queue", name=op.f("pk_wanted_workers")),
    )
    tune_storage("wanted_workers", fillfactor=50, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=500)
