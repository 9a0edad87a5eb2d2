"""What downstreams announce of their own quotas."""

import sqlalchemy as sa

from migrations.tables_in_use import add_column

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column that is null until a downstream announces something."""
    add_column("downstreams", sa.Column("announced", sa.Text()))
