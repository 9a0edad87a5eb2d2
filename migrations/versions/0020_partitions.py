"""Calls of a downstream are shared by partitions, which are rows with turns, limits and paces of their own."""

import sqlalchemy as sa
from alembic import op

from migrations.tables_in_use import add_column, create_index, tune_storage

revision = "0020"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns that are null, or constant, where there are no partitions; and two tables."""
    add_column("jobs", sa.Column("partition", sa.String(105)))
    add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="3"))
    add_column("jobs", sa.Column("rank_at", sa.BigInteger()))
    add_column("jobs", sa.Column("keeps_rank", sa.Boolean(), nullable=False, server_default=sa.false()))
    add_column("attempts", sa.Column("partition", sa.String(105)))
    add_column("attempts", sa.Column("turn", sa.BigInteger()))
    add_column("downstreams", sa.Column("sharing", sa.Text()))
    add_column("downstreams", sa.Column("shared_clock", sa.String(40), nullable=False, server_default="0"))
    add_column("downstreams", sa.Column("turns", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "partitions",
        sa.Column("downstream", sa.String(100), nullable=False),
        sa.Column("client", sa.String(40), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("turn", sa.String(40), nullable=False, server_default="0"),
        sa.Column("returned", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("weight", sa.Float(), nullable=False, server_default="1"),
        sa.Column("changes", sa.Text(), nullable=False, server_default="{}"),
        sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("pace", sa.Text(), nullable=False, server_default="{}"),
        sa.ForeignKeyConstraint(
            ["downstream"], ["downstreams.name"], name=op.f("fk_partitions_downstream_downstreams"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("downstream", "client", "name", name=op.f("pk_partitions")),
    )
    op.create_table(
        "shared_clients",
        sa.Column("downstream", sa.String(100), nullable=False),
        sa.Column("client", sa.String(40), nullable=False),
        sa.Column("turn", sa.String(40), nullable=False, server_default="0"),
        sa.Column("returned", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("weight", sa.Float(), nullable=False, server_default="1"),
        sa.Column("clock", sa.String(40), nullable=False, server_default="0"),
        sa.ForeignKeyConstraint(
            ["downstream"],
            ["downstreams.name"],
            name=op.f("fk_shared_clients_downstream_downstreams"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("downstream", "client", name=op.f("pk_shared_clients")),
    )
    for table in ("partitions", "shared_clients"):  # written with each release: as other such tables since 0013
        tune_storage(table, fillfactor=50, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=500)
    create_index(
        "ix_jobs_partition",
        "jobs",
        ["downstream", "partition", "rank_at", "id"],
        where="state = 'queued' AND slot_at IS NULL AND partition IS NOT NULL",
    )
