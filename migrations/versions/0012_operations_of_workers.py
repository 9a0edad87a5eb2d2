"""Workers say which operations they run."""

import sqlalchemy as sa

from migrations.tables_in_use import add_column

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column that is null for a worker of an earlier version, which does not say."""
    add_column("workers", sa.Column("operations", sa.Text()))
