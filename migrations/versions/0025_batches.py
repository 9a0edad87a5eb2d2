"""Which jobs went together in one call of their downstream."""

import sqlalchemy as sa

from migrations.tables_in_use import add_column

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds two columns."""
    add_column("jobs", sa.Column("batch", sa.String(50)))
    add_column("attempts", sa.Column("batch_id", sa.Uuid(as_uuid=False)))
