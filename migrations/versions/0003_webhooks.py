"""Webhooks: where a job's end is told, and every sending.

The end of a job makes its delivery due by a trigger, and not by the statements that end jobs. There are a dozen of them
(outcome, cancel, expiry by a reader and by the sweep, every way of coming back), several for many jobs at once; a
trigger is in the same transaction whichever it was, and costs nothing for a job that has no webhook.

A later migration that lets Alembic copy the table `jobs` on SQLite (batch mode) has to make the trigger anew.
"""

import sqlalchemy as sa
from alembic import op

from migrations.tables_in_use import add_column

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_MAKE_DUE = """
    UPDATE deliveries
    SET state = 'pending', event = 'job.' || NEW.state,
        created_at = NEW.finished_at, began_at = NEW.finished_at, run_at = NEW.finished_at
    WHERE job_id = NEW.id AND state = 'waiting';
"""
_HAS_ENDED = "NEW.has_webhook AND NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL"


def upgrade() -> None:
    """Adds the tables, the mark on jobs, and the trigger."""
    add_column("jobs", sa.Column("has_webhook", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "webhook_secrets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("client_id", sa.String(length=40), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("salt", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("signs_until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("fk_webhook_secrets_client_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_secrets")),
    )
    op.create_index(op.f("ix_webhook_secrets_client_id"), "webhook_secrets", ["client_id"], unique=False)
    op.create_table(
        "deliveries",
        sa.Column("job_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("client_id", sa.String(length=40), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("receiver", sa.String(length=300), nullable=False),
        sa.Column("state", sa.String(length=10), server_default="waiting", nullable=False),
        sa.Column("event", sa.String(length=20), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=True),
        sa.Column("began_at", sa.BigInteger(), nullable=True),
        sa.Column("run_at", sa.BigInteger(), nullable=True),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('waiting', 'pending', 'delivered', 'failed')", name=op.f("ck_deliveries_state")),
        sa.CheckConstraint("(state = 'waiting') = (event IS NULL)", name=op.f("ck_deliveries_event")),
        sa.CheckConstraint(
            "(state IN ('delivered', 'failed')) = (ended_at IS NOT NULL)", name=op.f("ck_deliveries_ended")
        ),
        sa.CheckConstraint("(state = 'pending') = (run_at IS NOT NULL)", name=op.f("ck_deliveries_run_at")),
        sa.CheckConstraint("lease_until IS NULL OR state = 'pending'", name=op.f("ck_deliveries_lease")),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_deliveries_client_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_deliveries_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_deliveries")),
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["receiver", "run_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
        sqlite_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_deliveries_leased",
        "deliveries",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("lease_until IS NOT NULL"),
        sqlite_where=sa.text("lease_until IS NOT NULL"),
    )
    op.create_index("ix_deliveries_client", "deliveries", ["client_id", "job_id"], unique=False)
    op.create_table(
        "delivery_attempts",
        sa.Column("job_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(length=300), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["deliveries.job_id"], name=op.f("fk_delivery_attempts_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_delivery_attempts")),
    )
    op.create_table(
        "receivers",
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("rests_until", sa.BigInteger(), nullable=True),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(failures = 0) = (failing_since IS NULL)", name=op.f("ck_receivers_failing")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_receivers")),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE TRIGGER job_ended AFTER UPDATE OF state ON jobs WHEN {_HAS_ENDED} BEGIN {_MAKE_DUE} END")
    else:
        op.execute(
            f"CREATE FUNCTION job_ended() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {_MAKE_DUE} RETURN NULL; END $$"
        )
        op.execute(
            f"CREATE TRIGGER job_ended AFTER UPDATE OF state ON jobs FOR EACH ROW WHEN ({_HAS_ENDED}) "
            "EXECUTE FUNCTION job_ended()"
        )
