"""Tables that change with every job are cleaned up soon, whatever they hold beside; those of few rows stay small."""

from migrations.tables_in_use import tune_storage

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# Of few rows that are written all the time. Half a page stays free for a row's next versions, so that an update touches
# no index and the page is tidied up by whoever reads it; what a long snapshot left behind is removed soon after it.
FEW_ROWS = ("downstreams", "samples", "workers", "stewards", "counts", "final_jobs", "receivers")
# Of many rows, nearly all of which change no more. By default PostgreSQL cleans up, and counts anew for its plans, when
# a fifth of a table has changed: with a million final jobs that is the work of hours, all of which lies in front of the
# queue's first job.
MANY_ROWS = ("jobs", "attempts", "bodies", "idempotency_keys", "deliveries", "delivery_attempts")


def upgrade() -> None:
    """Sets autovacuum's and fillfactor's parameters. Rows that are there already move as they change."""
    for table in FEW_ROWS:
        tune_storage(table, fillfactor=50, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=500)
    for table in MANY_ROWS:
        tune_storage(
            table,
            autovacuum_vacuum_scale_factor=0.02,
            autovacuum_vacuum_threshold=1000,
            autovacuum_analyze_scale_factor=0.02,
            autovacuum_analyze_threshold=1000,
        )
