"""What a caller may do: submit, get, list, cancel, retry, delete. Decides nothing about HTTP."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

import uuid_utils

from tidegate.dispatch.forecast import retry_after_seconds, waiting_of
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.dispatch.partitions.forecast import waiting_in_partition
from tidegate.errors import (
    InvalidHeader,
    JobAlreadyFinal,
    JobNotFinal,
    Refusal,
    UnknownJob,
    UnsupportedBody,
)
from tidegate.intake.admission import Admission, Later, RequestAdmission
from tidegate.intake.store import SubmissionStore
from tidegate.intake.submission import (
    NewJob,
    StoredKey,
    Submission,
    check_same,
    erased,
    order_of,
    place_in,
    traced,
)
from tidegate.intake.waiting_bytes import WaitingBytes
from tidegate.jobs.filter import Filter, Page
from tidegate.jobs.job import Job, JobWithResult, StoredBody, Waiting
from tidegate.jobs.store import JobStore
from tidegate.metrics.families import SUBMITS
from tidegate.notify.notifier import Notifier
from tidegate.operations.operation import CONTENT_TYPE_LENGTH, Operation, check_size
from tidegate.operations.registry import Registry
from tidegate.states import State
from tidegate.webhooks.checks import WebhookChecks
from tidegate.webhooks.delivery import Webhook
from tidegate.webhooks.store import DeliveryStore

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Gateway:
    """Every call that a face such as HTTP makes on jobs. `client_id` None: an operator, who has every client's."""

    store: JobStore
    submissions: SubmissionStore
    registry: Registry
    lanes: LaneCache
    admission: Admission
    notifier: Notifier
    deliveries: DeliveryStore
    webhook_checks: WebhookChecks
    waiting_bytes: WaitingBytes | None = None

    def submit(self, submission: Submission) -> Job:
        """Records a job. When this returns it is committed, and will reach a final state whatever dies.

        Under an idempotency key that was used before, the job of then. Of requests that come together under one
        key the first records, the others get its job. Raises a Refusal when it is not taken; then nothing was
        recorded and no key is used up.
        """
        return self.submit_all([submission])[0]

    def submit_all(self, submissions: Sequence[Submission]) -> list[Job]:
        """Records all of these jobs or none, in one transaction; raises the first Refusal."""
        with traced(submissions) as followed, self.admission.request(len(submissions)) as admission:
            checked = self._checked(followed, admission)
            _raise_first(checked)
            return _raise_first(self._counted(self._record(checked, check=check_same)))

    def submit_each(self, submissions: Sequence[Submission]) -> list[Job | Refusal]:
        """Records each job that is taken, in one transaction; the others' places hold their Refusals."""
        with traced(submissions) as followed, self.admission.request(len(submissions)) as admission:
            return self._counted(self._record(self._checked(followed, admission)))

    def _counted(self, answers: list[Job | Refusal]) -> list[Job | Refusal]:
        for answer in answers:
            if isinstance(answer, Job):
                self.store.counts.add(SUBMITS, answer.operation, "replayed" if answer.is_replay else "recorded")
        return answers

    def _checked(self, submissions: Sequence[Submission], admission: RequestAdmission) -> list[NewJob | Job | Refusal]:
        """Checks each submission: the job to record, the job of a key that was used before, or why it is refused."""
        known = self.submissions.keys(key for each in submissions for key in each.keys)
        checked: list[NewJob | Job | Refusal] = []
        for submission in submissions:
            try:
                operation = self.registry.operation(submission.operation)
                checked.append(self._replay(submission, known) or self._new_job(operation, submission, admission))
            except Refusal as refusal:
                checked.append(refusal)
        return checked

    def _new_job(self, operation: Operation, submission: Submission, admission: RequestAdmission) -> NewJob:
        body, timeout = submission.body, submission.timeout or operation.timeout
        check_size(operation, body)
        if len(body.content_type) > CONTENT_TYPE_LENGTH:
            raise UnsupportedBody(f"a content type has at most {CONTENT_TYPE_LENGTH} characters")
        if timeout > operation.timeout:
            limit = f"{operation.timeout.total_seconds():g} seconds"
            raise InvalidHeader(f"Job-Timeout: {operation.name} allows at most {limit}")
        later = self._later(operation, submission.not_before) if submission.not_before else None
        if later and later.run_at - later.now >= timeout:
            raise InvalidHeader("Job-Not-Before: it must lie before the deadline")
        operation.check(body)
        if submission.webhook:
            self.webhook_checks.check(submission.webhook, submission.client_id)
        client, place = submission.client_id, place_in(self.registry.sharing(operation), submission)
        admission.check(operation, client_id=client, timeout=timeout, later=later, place=place)
        if self.waiting_bytes:
            self.waiting_bytes.admit(client, len(body.content))
        return NewJob(
            id=str(uuid_utils.uuid7()),
            client_id=client,
            operation=operation.name,
            downstream=operation.downstream,
            queue=operation.queue,
            timeout=timeout,
            not_before=later.run_at if later else None,
            max_attempts=operation.retry.attempts,
            paced_by_calls=operation.paced_by_calls,
            traceparent=submission.traceparent,
            retry_of=submission.retry_of,
            webhook=submission.webhook,
            place=place,
            idempotency_key=submission.idempotency_key,
            fingerprint=submission.fingerprint if submission.idempotency_key else None,
            body=body,
        )

    def _later(self, operation: Operation, not_before: datetime) -> Later | None:
        """When a job with Job-Not-Before may run, in its turn among those of that instant; None: at once."""
        now, turn = self.submissions.now_and_turn(operation.downstream, not_before)
        return Later(now=now, run_at=turn) if not_before > now else None

    def _record(
        self, checked: Sequence[NewJob | Job | Refusal], check: Callable[[NewJob, StoredKey], None] | None = None
    ) -> list[Job | Refusal]:
        """Inserts the new jobs; one whose key another request was faster to use gets that request's job."""
        new = [each for each in checked if isinstance(each, NewJob)]
        inserted = self.submissions.insert(new, check)
        self.admission.submitted(*(answer for answer in inserted if isinstance(answer, Job)))
        recorded = iter(zip(new, inserted, strict=True))
        # A job that may not begin yet wakes the scheduler for all lanes (""): it must learn the new instant to wake at.
        for lane in {"" if job.not_before else job.lane for job in new}:
            self.notifier.wake_scheduler(lane)
        return [self._recorded(*next(recorded)) if isinstance(each, NewJob) else each for each in checked]

    def _recorded(self, new: NewJob, answer: Job | StoredKey) -> Job | Refusal:
        if isinstance(answer, Job):
            return answer
        try:
            check_same(new, answer)
            return self._job_of(answer, new.client_id)
        except Refusal as refusal:
            return refusal

    def get(self, job_id: str, *, client_id: str | None) -> Job:
        """The job as it is now; one past its deadline is expired first. Raises UnknownJob."""
        job = self.store.get(job_id, client_id)
        if job is None:
            raise _unknown(job_id)
        return job

    def get_with_result(self, job_id: str, *, client_id: str | None) -> JobWithResult:
        """As `get`, with the job's result as it stands in the job's document."""
        found = self.store.get_with_result(job_id, client_id)
        if found is None:
            raise _unknown(job_id)
        return found

    def list(self, wanted: Filter) -> Page:
        """A page of jobs without results, newest first."""
        return self.store.list(wanted)

    def count(self, wanted: Filter, *, most: int) -> int:
        """Counts the jobs that fit the filter, whatever its limit; stops at `most`."""
        return self.store.count(wanted, most=most)

    def list_all(self, wanted: Filter) -> Sequence[Job]:
        """The jobs that fit the filter, newest first, up to its limit, from as many pages as that takes."""
        return self.store.list_all(wanted)

    def waiting(self, job: Job, *, counted_within: float | None = None) -> Waiting | None:
        """Why the job waits and how long it will; None for a job that is not queued.

        `counted_within`: a count of its partition may be so many seconds old; None: about one.
        """
        if job.state is not State.QUEUED:
            return None
        is_known = self.lanes.known_in(job.queue).has(job.operation, self.registry.operations)
        if shared := self.admission.partitions.lane_of(job, self.lanes.view(job.downstream), within=counted_within):
            return waiting_in_partition(job, *shared, is_known=is_known)
        lane = self.lanes.counted_for(job)
        return waiting_of(job, lane, *self.lanes.submitted_before(job.downstream, job.run_at), is_known=is_known)

    def retry_after_seconds(self, job: Job, waiting: Waiting | None) -> int:
        """Whole seconds until it is worth polling the job again."""
        return retry_after_seconds(job, waiting, self.lanes.view(job.downstream))

    def result(self, job: Job) -> StoredBody | None:
        """The job's result; None unless it succeeded."""
        return self.store.body(job.id, "result") if job.state is State.SUCCEEDED else None

    def cancel(self, job_id: str, *, client_id: str | None) -> Job:
        """Cancels a queued job at once, asks a running one to stop.

        Returns the job after that: cancelled, or still running with the request noted. Raises UnknownJob, and
        JobAlreadyFinal for one that had ended in another way.
        """
        job = self.store.cancel(job_id, client_id)
        if job is None:
            raise _unknown(job_id)
        self.notifier.notify_jobs_changed(job.id)
        if job.state.is_final and job.state is not State.CANCELLED:
            raise JobAlreadyFinal(f"the job is already {job.state}")
        return job

    def retry(
        self,
        job_id: str,
        *,
        client_id: str | None,
        idempotency_key: str | None = None,
        quoted_key: str | None = None,
    ) -> Job:
        """Retries a final job that did not succeed: submits it as a new job, with a new deadline.

        With the same timeout and webhook. Raises what `submit` raises, UnknownJob, JobNotFinal, JobAlreadyFinal.
        """
        job = self.get(job_id, client_id=client_id)
        if not job.state.is_final:
            raise JobNotFinal(f"the job is still {job.state}")
        if job.state is State.SUCCEEDED:
            raise JobAlreadyFinal("the job succeeded")
        body = self.store.body(job.id, "input")
        if body is None:
            raise _unknown(job_id)
        operation = self.registry.operation(job.operation)
        return self.submit(
            Submission(
                operation=job.operation,
                body=body,
                client_id=job.client_id,
                timeout=min(job.deadline - job.created_at, operation.timeout),
                idempotency_key=idempotency_key,
                quoted_key=quoted_key,
                traceparent=job.traceparent,
                retry_of=job.id,
                webhook=self._webhook_of(job),
                **order_of(self.registry.sharing(operation), job),
            )
        )

    def delete(self, job_id: str, *, client_id: str | None) -> None:
        """Erases a final job and its result; its idempotency key answers JobErased from then on.

        Raises UnknownJob, and JobNotFinal for one that still goes on.
        """
        if not self.store.delete(job_id, client_id):
            job = self.get(job_id, client_id=client_id)
            raise JobNotFinal(f"the job is still {job.state}; cancel it first")
        self.notifier.notify_jobs_changed(job_id)

    def _webhook_of(self, job: Job) -> Webhook | None:
        """The webhook of the job that is retried: the new job's end is sent there too."""
        delivery = self.deliveries.get(job.id, None) if job.has_webhook else None
        return Webhook(url=delivery.url, base_url=delivery.base_url) if delivery else None

    def _replay(self, submission: Submission, known: Mapping[tuple[str, str], StoredKey]) -> Job | None:
        key = next((known[name] for name in submission.keys if name in known), None)
        if key is None:
            return None
        check_same(submission, key)
        return self._job_of(key, submission.client_id)

    def _job_of(self, key: StoredKey, client_id: str) -> Job:
        job = self.store.get(key.job_id, client_id) if key.job_id else None
        if job is None:
            raise erased()
        return replace(job, is_replay=True)


def _raise_first(answers: Sequence[Answer | Refusal]) -> list[Answer]:
    for refusal in (answer for answer in answers if isinstance(answer, Refusal)):
        raise refusal
    return [answer for answer in answers if not isinstance(answer, Refusal)]


def _unknown(job_id: str) -> UnknownJob:
    return UnknownJob(f"there is no job {job_id}")
