"""Keys whose submits name partitions that are shared by all clients."""

import sqlalchemy as sa

from migrations.tables_in_use import add_column

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column that is false for every key there is."""
    add_column("keys", sa.Column("names_shared", sa.Boolean(), nullable=False, server_default=sa.false()))
