"""Followers: an attempt may be released on the place of another one that is still open."""

import sqlalchemy as sa

from migrations.tables_in_use import add_column, create_index

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds which attempt a follower waits for."""
    add_column("attempts", sa.Column("follows_job", sa.Uuid(as_uuid=False), nullable=True))
    add_column("attempts", sa.Column("follows_fence", sa.Integer(), nullable=True))
    create_index("ix_attempts_follows", "attempts", ["follows_job"], where="follows_job IS NOT NULL")
