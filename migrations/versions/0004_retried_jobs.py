"""Which jobs were submitted again: a retry of many passes over those."""

from migrations.tables_in_use import create_index

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds an index of the jobs that are retries."""
    create_index("ix_jobs_retry_of", "jobs", ["retry_of"], where="retry_of IS NOT NULL")
