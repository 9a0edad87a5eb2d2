"""Jobs whose downstream has accepted the work are polled, and keep their place until they end.

The end of a job frees the place by a trigger, and not by the statements that end jobs: there are a dozen of them, as
for webhooks (0003), and the trigger costs nothing for a job that is not polled.
"""

import sqlalchemy as sa

from migrations.tables_in_use import add_column, create_index, create_trigger

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_FREE_PLACE = """
    UPDATE attempts SET ended_at = NEW.finished_at
    WHERE job_id = NEW.id AND fence = NEW.place_fence AND ended_at IS NULL;
"""
_HAS_ENDED = "NEW.place_fence IS NOT NULL AND NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL"


def upgrade() -> None:
    """Adds two columns that are null where nothing is polled, an index of what is, and the trigger."""
    add_column("jobs", sa.Column("poll_url", sa.Text()))
    add_column("jobs", sa.Column("place_fence", sa.Integer()))
    create_index(
        "ix_jobs_polls",
        "jobs",
        ["downstream", "run_at", "id"],
        where="place_fence IS NOT NULL AND slot_at IS NULL AND finished_at IS NULL",
    )
    create_trigger("polled_job_ended", "jobs", column="state", condition=_HAS_ENDED, body=_FREE_PLACE)
