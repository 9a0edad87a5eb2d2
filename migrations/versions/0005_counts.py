"""What /metrics tells beside what other rows say: counts, the stewards that live, how many final jobs are kept."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds three small tables."""
    op.create_table(
        "counts",
        sa.Column("series", sa.String(length=60), nullable=False),
        sa.Column("labels", sa.String(length=400), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("series", "labels", name=op.f("pk_counts")),
    )
    op.create_table(
        "stewards",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("seen_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stewards")),
    )
    op.create_table(
        "final_jobs",
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("counted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("state", name=op.f("pk_final_jobs")),
    )
