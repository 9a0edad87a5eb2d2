"""The one Celery task: it names a job and the release it belongs to. Everything else is in the row."""

from tasks.app import app
from tasks.worker import runner


@app.task(name="tasks.run.run_job")
def run_job(job_id: str, fence: int) -> None:
    """Makes one attempt at the job, if this release still stands."""
    runner().run(job_id, fence)
