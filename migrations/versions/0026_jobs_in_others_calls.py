"""How many jobs went along in the calls of others, and how many jobs a call has while there is a backlog."""

import sqlalchemy as sa

from migrations.tables_in_use import add_column

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds three columns."""
    add_column("downstreams", sa.Column("companions", sa.BigInteger(), nullable=False, server_default="0"))
    add_column("samples", sa.Column("companions", sa.BigInteger(), nullable=False, server_default="0"))
    add_column("samples", sa.Column("fill", sa.Float(), nullable=False, server_default="0"))
