"""What a caller may do: submit, get, cancel. Decides nothing about HTTP."""

from dataclasses import dataclass
from datetime import timedelta

import uuid_utils

from tidegate.errors import (
    BodyTooLarge,
    CannotFinishInTime,
    InvalidHeader,
    JobAlreadyFinal,
    UnknownJob,
    UnsupportedBody,
)
from tidegate.forecast import LaneView, Waiting, earliest_finish, retry_after_seconds, waiting_of
from tidegate.job import Job, StoredBody
from tidegate.lanes import Lanes
from tidegate.operations import CONTENT_TYPE_LENGTH, Body, Operation, Registry
from tidegate.states import State
from tidegate.store.callers import CallerStore, NewJob
from tidegate.wake import Bell


@dataclass(frozen=True)
class Jobs:
    """The gateway as its callers see it."""

    store: CallerStore
    registry: Registry
    lanes: Lanes
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
        if len(body.content_type) > CONTENT_TYPE_LENGTH:
            raise UnsupportedBody(f"a content type has at most {CONTENT_TYPE_LENGTH} characters")
        operation.check(body)
        if operation.admission:
            self._admit(operation, timeout or operation.timeout)
        job = self.store.insert(
            NewJob(
                id=str(uuid_utils.uuid7()),
                client_id=client_id,
                operation=operation.name,
                downstream=operation.downstream,
                queue=operation.queue,
                timeout=timeout or operation.timeout,
                max_attempts=operation.retry.attempts,
                paced_by_calls=operation.paced_by_calls,
                body=body,
            )
        )
        self.lanes.submitted(operation.downstream)
        self.bell.ring()
        return job

    def get(self, job_id: str, *, client_id: str) -> Job:
        """The job as it is now, its deadline applied to the second; raises UnknownJob."""
        job = self.store.get(job_id, client_id)
        if job is None:
            raise UnknownJob(f"there is no job {job_id}")
        return job

    def waiting(self, job: Job) -> Waiting | None:
        """Why the job waits and how long it will; None for one that does not."""
        return waiting_of(job, self._lane(job)) if job.state is State.QUEUED else None

    def retry_after_seconds(self, job: Job, waiting: Waiting | None) -> int:
        """Whole seconds until it is worth asking again."""
        return retry_after_seconds(job, waiting, self._lane(job))

    def _lane(self, job: Job) -> LaneView | None:
        return self.lanes.view(job.downstream)

    def _admit(self, operation: Operation, timeout: timedelta) -> None:
        lane = self.lanes.view(operation.downstream)
        if lane is None:
            return
        now = lane.downstream.seen_at
        finish = earliest_finish(lane, now, self.lanes.submitted_since_sample(operation.downstream))
        if finish is not None and finish > now + timeout:
            raise CannotFinishInTime(
                f"{operation.downstream} is busy: it would not be done within its {timeout.total_seconds():g} seconds",
                retry_after=finish - now - timeout,
                earliest_finish=finish,
            )

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
