"""The two Celery tasks: each message names a row and one release of it. Everything else is in the row."""

from tasks.app import app
from tasks.worker.process import runner, sender


@app.task(name="tasks.run.run_job")
def run_job(job_id: str, fence: int) -> None:
    """Makes one attempt at the job, if this release still stands."""
    runner().run(job_id, fence)


@app.task(name="tasks.run.send_delivery")
def send_delivery(job_id: str, fence: int) -> None:
    """Makes one attempt at sending the job's webhook, if this release still stands."""
    sender().run(job_id, fence)
