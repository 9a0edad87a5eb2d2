"""The three Celery tasks: each message names rows and one release of them. Everything else is in the rows."""

from collections.abc import Sequence

from tasks.app import app
from tasks.worker.runners import batch_runner, runner, sender


@app.task(name="tasks.run.run_job")
def run_job(job_id: str, fence: int) -> None:
    """Makes one attempt at the job, if this release still stands."""
    runner().run(job_id, fence)


@app.task(name="tasks.run.run_batch")
def run_batch(batch_id: str, releases: Sequence[tuple[str, int]]) -> None:
    """Makes one call for the jobs of the batch whose releases still stand."""
    batch_runner().run(batch_id, [(job_id, fence) for job_id, fence in releases])


@app.task(name="tasks.run.send_delivery")
def send_delivery(job_id: str, fence: int) -> None:
    """Makes one attempt at sending the job's webhook, if this release still stands."""
    sender().run(job_id, fence)
