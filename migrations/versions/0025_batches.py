"""Which jobs went together in one call of their downstream."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds two columns."""
    op.add_column("jobs", sa.Column("batch", sa.String(50)))
    op.add_column("attempts", sa.Column("batch_id", sa.Uuid(as_uuid=False)))
