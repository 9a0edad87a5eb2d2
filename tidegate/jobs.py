"""What a caller may do: submit, get, cancel. Decides nothing about HTTP."""

from dataclasses import dataclass
from datetime import timedelta

import uuid_utils

from tidegate.errors import BodyTooLarge, InvalidHeader, JobAlreadyFinal, UnknownJob
from tidegate.job import Job, StoredBody
from tidegate.operations import Body, Registry
from tidegate.states import State
from tidegate.store.callers import CallerStore, NewJob
from tidegate.wake import Bell


@dataclass(frozen=True)
class Jobs:
    """The gateway as its callers see it."""

    store: CallerStore
    registry: Registry
    bell: Bell

    def submit(self, operation_name: str, body: Body, *, client_id: str, timeout: timedelta | None = None) -> Job:
        """Records a job. When this returns it is committed, and will reach a final state whatever dies.

        `timeout` shortens the operation's own. Raises a Refusal when it is not taken; then nothing was recorded.
        """
        operation = self.registry.operation(operation_name)
        if len(body.content) > operation.max_body:
            raise BodyTooLarge(f"{operation.name} takes at most {operation.max_body} bytes, not {len(body.content)}")
        if timeout is not None and timeout > operation.timeout:
            raise InvalidHeader(
                f"Job-Timeout: {operation.name} allows at most {operation.timeout.total_seconds():g} seconds"
            )
        operation.check(body)
        job = self.store.insert(
            NewJob(
                id=str(uuid_utils.uuid7()),
                client_id=client_id,
                operation=operation.name,
                downstream=operation.downstream,
                queue=operation.queue,
                timeout=timeout or operation.timeout,
                max_attempts=operation.retry.attempts,
                body=body,
            )
        )
        self.bell.ring()
        return job

    def get(self, job_id: str, *, client_id: str) -> Job:
        """The job as it is now, its deadline applied to the second; raises UnknownJob."""
        job = self.store.get(job_id, client_id)
        if job is None:
            raise UnknownJob(f"there is no job {job_id}")
        return job

    def result(self, job: Job) -> StoredBody | None:
        """What the job brought; None unless it succeeded."""
        return self.store.result(job.id) if job.state is State.SUCCEEDED else None

    def cancel(self, job_id: str, *, client_id: str) -> Job:
        """Cancels a queued job at once, asks a running one to stop.

        Returns the job after that: cancelled, or still running with the request noted. Raises UnknownJob, and
        JobAlreadyFinal for one that had ended in another way.
        """
        job = self.store.cancel(job_id, client_id)
        if job is None:
            raise UnknownJob(f"there is no job {job_id}")
        if job.state.is_final and job.state is not State.CANCELLED:
            raise JobAlreadyFinal(f"the job is already {job.state}")
        return job
