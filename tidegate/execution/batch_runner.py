"""The batch runner: makes one call for several jobs: claims them, waits for their slot, records each outcome."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from tidegate import clock, tracing
from tidegate.database.connection import UNREACHABLE
from tidegate.database.retrying import retry_until_answered
from tidegate.errors import AttemptStopped, UnknownOperation
from tidegate.execution.attempt_runner import NOT_STORED, UNKNOWN_HERE, AttemptRunner
from tidegate.execution.batch_endings import endings_of
from tidegate.execution.outcome_words import word_of
from tidegate.execution.progress import ProgressReporter
from tidegate.execution.slot_wait import Start
from tidegate.execution.token_keeper import AttemptTokens
from tidegate.jobs.job import Call, Claim, InBatch
from tidegate.log_context import about
from tidegate.metrics.families import ATTEMPT_SECONDS, ATTEMPTS, BATCH_JOBS, HALVED, LATE, QUEUE_WAIT
from tidegate.operations.attempt_outcome import outcomes_of
from tidegate.operations.operation import Attempt, Body, Member, Operation, Progress
from tidegate.operations.outcome import BatchOutcome, Failed, HandedBack, Outcome, Refused, Split, Succeeded, TryAgain
from tidegate.operations.retry import RetryPolicy

log = logging.getLogger(__name__)


class BatchRunner(AttemptRunner):
    """Runs the batches that messages name. As with a single job, the claim decides what there is to do.

    Each job keeps its own fence, outcome and attempt. They have one slot and one place, which the first of them has.
    """

    def run(self, batch_id: str, releases: Sequence[Call]) -> bool:
        """Makes one call for the jobs whose releases still stand; False: none did, and nothing was done."""
        with ExitStack() as held, about(batch_id=batch_id):
            for job_id, fence in releases:
                held.enter_context(self._open_attempts.holding(job_id, fence))
            claims = self._claim(batch_id, releases)
            if not claims:
                log.info("batch %s: no release of it still stands", batch_id)
                self._notifier.wake_scheduler()
                return False
            with about(operation=claims[0].operation, downstream=claims[0].downstream):
                self._carry_out(batch_id, claims)
        return True

    def _claim(self, batch_id: str, releases: Sequence[Call]) -> Sequence[Claim]:
        try:
            return self._store.claims.claim_together(
                releases,
                worker=self._worker,
                pid=os.getpid(),
                lease=self._lease,
                attempt_timeouts=self._attempt_timeouts,
            )
        except UNREACHABLE as error:
            # It may have been committed all the same, as a whole or in part.
            log.warning("batch %s: the database can't be reached, not claimed: %s", batch_id, error)
            for job_id, fence in releases:
                self._disclaim(job_id, fence)
            return ()

    def _disclaim(self, job_id: str, fence: int) -> None:
        retry_until_answered(job_id, lambda: self._store.claims.disclaim(job_id, fence, worker=self._worker))

    def _carry_out(self, batch_id: str, claims: Sequence[Claim]) -> None:
        for claim in claims:
            self._notifier.notify_attempt_began(claim.job_id)
            self._counts.observe(QUEUE_WAIT, claim.waited_seconds, claim.downstream)
        lead = claims[0]
        what = {"batch.id": batch_id, "operation": lead.operation, "downstream": lead.downstream}
        with tracing.span("batch", parent=lead.traceparent, kind="consumer", jobs=len(claims), **what) as span:
            traced = replace(lead, traceparent=span.traceparent) if tracing.is_on() else lead
            call = _Call(batch_id, traced, claims)
            outcome = self._attempt(call)
            if isinstance(outcome, Split | TryAgain):
                span.fail(type(outcome).__name__)
        endings, won = self._record(call, outcome)
        for claim in claims:
            self._notifier.notify_jobs_changed(claim.job_id)
        self._wake(is_final=_is_final(outcome))
        self._count(call, outcome, won)
        log.info("batch %s: %d job(s) of %s: %s", call.batch_id, len(call.claims), lead.operation, _told(endings, won))

    def _record(self, call: "_Call", outcome: BatchOutcome) -> tuple[Sequence[str], Sequence[bool]]:
        """Records an outcome for each job; returns how their attempts ended, and which outcomes stand."""
        operation = self._registry.operations.get(call.lead.operation)
        retry = operation.retry if operation else RetryPolicy()

        def record(what: BatchOutcome, *, whatever_it_says: bool = False) -> tuple[Sequence[str], Sequence[bool]]:
            endings, news = endings_of(call.claims, what, retry)
            won = retry_until_answered(
                call.batch_id,
                lambda: self._store.batches.record(endings, news, call_seconds=call.seconds),
                whatever_it_says=whatever_it_says,
            )
            return [ending.outcome for ending in endings], won

        self._announce(call, outcome)
        try:
            return record(outcome)
        except Exception:
            # Not one of UNREACHABLE: the database will never take these outcomes.
            log.exception("batch %s: its outcomes could not be stored", call.batch_id)
            return record([NOT_STORED for _ in call.claims], whatever_it_says=True)

    def _announce(self, call: "_Call", outcome: BatchOutcome) -> None:
        """Records, before the place is free, what the answer announced as left of the downstream's quotas."""
        first: Outcome | Split | None = outcome[0] if isinstance(outcome, Sequence) else outcome
        quotas = () if isinstance(first, HandedBack) or first is None else first.quotas
        if quotas and call.seconds is not None:
            self._store.workers.announce(call.lead, quotas, call_seconds=call.seconds)

    def _attempt(self, call: "_Call") -> BatchOutcome:
        lead = call.lead
        try:
            operation = self._registry.operation(lead.operation)
        except UnknownOperation as error:
            log.warning("batch %s: %s", call.batch_id, error)
            return UNKNOWN_HERE
        call.start = start = self._start_of(lead, operation, since=clock.monotonic())
        outcome = self._run(call, operation, start)
        if lead.may_be_followed:
            self._hand_over((call.lead.job_id, call.lead.fence), _of_call(outcome, start))
        return outcome

    def _run(self, call: "_Call", operation: Operation, start: Start) -> BatchOutcome:
        reporter = ProgressReporter(
            lambda progress: self._progress(call, progress),
            lambda: bool(self._store.batches.still_counting(call.claims)),
            lambda: start.ends,
        )
        lead = call.lead
        attempt = Attempt(
            job_id=call.batch_id,
            number=max(claim.attempt for claim in call.claims),
            report=reporter.report,
            seconds_left=lambda: start.seconds_left,
            take_slot=lambda: None,
            begin=start.begin,
            sent=start.sent,
            check=reporter.check,
            headers={"traceparent": lead.traceparent} if lead.traceparent else {},
            tokens=AttemptTokens(self._tokens, lead, lambda: start.seconds_left),
        )

        def members() -> Sequence[Member]:
            self._last_check(call, start)
            attempt.job_id = call.batch_id
            return [
                Member(job_id=claim.job_id, number=claim.attempt, body=claim.input or Body(content=b""))
                for claim in call.claims
            ]

        def when_stopped() -> HandedBack | TryAgain:
            return reporter.timed_out or HandedBack(reason="no slot" if start.is_missed else "stopped")

        return outcomes_of(operation, members, attempt, max_result=self._max_result, when_stopped=when_stopped)

    def _last_check(self, call: "_Call", start: Start) -> None:
        """Leaves out jobs that were cancelled, have expired or were erased. Raises AttemptStopped if none is left."""
        in_time = [claim for claim in call.claims if claim.deadline_due > clock.monotonic() and claim.input is not None]
        counting = {claim.job_id for claim in in_time}
        if len(call.claims) > 1:
            try:
                counting &= self._store.batches.still_counting(call.claims)
            except UNREACHABLE as error:
                log.warning("batch %s: not known who still takes part: %s", call.batch_id, error)
        staying = [claim for claim in call.claims if claim.job_id in counting]
        leaving = [claim for claim in call.claims if claim.job_id not in counting]
        if not staying:
            raise AttemptStopped("stopped")
        changed = InBatch.among([claim.job_id for claim in staying])[0].id
        if leaving or changed != call.batch_id:
            lead = retry_until_answered(call.batch_id, lambda: self._store.batches.leave_out(leaving, staying))
            call.keep(staying, lead, batch_id=changed)
            start.pass_to(call.lead)
            for claim in (*leaving, *staying):
                self._notifier.notify_jobs_changed(claim.job_id)

    def _count(self, call: "_Call", outcome: BatchOutcome, won: Sequence[bool]) -> None:
        lead = call.lead
        what = lead.operation, lead.downstream
        for index, stands in enumerate(won):
            its_own = outcome[index] if isinstance(outcome, Sequence) else outcome
            self._counts.add(ATTEMPTS, *what, word_of(its_own))
            if not stands and not isinstance(its_own, HandedBack):
                self._counts.add(LATE, *what)
        if call.seconds is not None:
            self._counts.observe(ATTEMPT_SECONDS, call.seconds, *what)
            self._counts.observe(BATCH_JOBS, len(call.claims), *what)
        if isinstance(outcome, Split) and len(call.claims) > 1:
            self._counts.add(HALVED, *what)

    def _progress(self, call: "_Call", progress: Progress) -> bool:
        counting = self._store.batches.progress(call.claims, progress, lease=self._lease)
        for job_id in counting:
            self._notifier.notify_jobs_changed(job_id)
        return bool(counting)


class _Call:
    """The one call of a batch: its jobs, in their order; who has slot and place; when it began."""

    def __init__(self, batch_id: str, lead: Claim, claims: Sequence[Claim]) -> None:
        self.batch_id = batch_id
        # It goes on while one of them has time.
        self.lead = replace(lead, deadline_due=max(claim.deadline_due for claim in claims))
        self.claims = sorted(claims, key=lambda claim: claim.job_id)
        self.start: Start | None = None

    def keep(self, staying: Sequence[Claim], lead: Call | None, *, batch_id: str) -> None:
        """Only these are left; the one with this call has slot and place, if it is another one now."""
        self.batch_id = batch_id
        self.claims = [*staying]
        for claim in staying:
            if (claim.job_id, claim.fence) == lead:
                self.lead = replace(self.lead, job_id=claim.job_id, fence=claim.fence)

    @property
    def seconds(self) -> float | None:
        """Since the call began; None: it did not."""
        if self.start is None or not self.start.has_begun:
            return None
        return clock.monotonic() - self.start.began


def _is_final(outcome: BatchOutcome) -> bool:
    """Whether none of the jobs is due again."""
    return isinstance(outcome, Sequence) and all(isinstance(each, Succeeded | Failed) for each in outcome)


def _of_call(outcome: BatchOutcome, start: Start) -> Outcome:
    """What the call as a whole tells others: where one of its jobs was refused, or is tried again, that."""
    match outcome:
        case Split():
            return outcome.alone
        case HandedBack():
            return replace(outcome, was_called=outcome.was_called or start.has_begun)
        case TryAgain() | Refused():
            return outcome
    return next((each for each in outcome if isinstance(each, Refused | TryAgain)), outcome[0])


def _told(outcomes: Sequence[str], won: Sequence[bool]) -> str:
    counted = Counter(outcomes)
    late = f", {won.count(False)} too late" if not all(won) else ""
    return ", ".join(f"{number} {outcome}" for outcome, number in counted.most_common()) + late
