"""Followers: an attempt may be released on the place of another one that is still open."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds which attempt a follower waits for."""
    op.add_column("attempts", sa.Column("follows_job", sa.Uuid(as_uuid=False), nullable=True))
    op.add_column("attempts", sa.Column("follows_fence", sa.Integer(), nullable=True))
    op.create_index(
        "ix_attempts_follows",
        "attempts",
        ["follows_job"],
        unique=False,
        postgresql_where=sa.text("follows_job IS NOT NULL"),
        sqlite_where=sa.text("follows_job IS NOT NULL"),
    )
