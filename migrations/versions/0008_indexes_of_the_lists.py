"""Lists of jobs that failed, expired or were cancelled go by indexes that have just those."""

from migrations.tables_in_use import create_index

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_UNSUCCESSFUL = "state IN ('cancelled', 'expired', 'failed')"


def upgrade() -> None:
    """Adds an index for operators, who see all jobs, and one for clients, who see their own."""
    create_index("ix_jobs_unsuccessful", "jobs", ["state", "id"], where=_UNSUCCESSFUL)
    create_index("ix_jobs_unsuccessful_client", "jobs", ["client_id", "state", "id"], where=_UNSUCCESSFUL)
