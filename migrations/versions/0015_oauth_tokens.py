"""Access tokens of HTTP operations are fetched once for the whole cluster."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a table that a process of an earlier version does not know."""
    op.create_table(
        "oauth_tokens",
        sa.Column("name", sa.LargeBinary(32), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=True),
        sa.Column("fetched_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "token IS NULL OR (fetched_at IS NOT NULL AND expires_at IS NOT NULL)", name=op.f("ck_oauth_tokens_life")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_oauth_tokens")),
    )
