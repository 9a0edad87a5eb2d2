"""The runner: makes one attempt at one job: claims it, waits for its slot, runs its operation, records the outcome."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

from tidegate import clock, tracing
from tidegate.database.connection import UNREACHABLE
from tidegate.database.retrying import retry_until_answered
from tidegate.errors import UnknownOperation
from tidegate.execution.attempt_runner import NOT_STORED, UNKNOWN_HERE, AttemptRunner
from tidegate.execution.outcome_recorder import OutcomeRecorder
from tidegate.execution.outcome_words import told, word_of
from tidegate.execution.progress import ProgressReporter
from tidegate.execution.slot_wait import Start
from tidegate.execution.token_keeper import AttemptTokens
from tidegate.jobs.job import Claim
from tidegate.log_context import about, trace_id
from tidegate.metrics.families import ATTEMPT_SECONDS, ATTEMPTS, CALLS, LATE, QUEUE_WAIT
from tidegate.operations.attempt_outcome import outcome_of
from tidegate.operations.operation import Attempt, Body, Operation, Progress
from tidegate.operations.outcome import (
    Failed,
    HandedBack,
    Outcome,
    Polls,
    Succeeded,
    TryAgain,
)
from tidegate.tracing import Span

log = logging.getLogger(__name__)

# So much longer than it may an attempt ran before that is worth a warning.
_OVERRUN_SECONDS = 0.5


class Runner(AttemptRunner):
    """Runs the jobs that messages name. A message is only a hint: the claim decides whether there is anything to do.

    Once claimed, a job is not let go before the database has said what became of it: while it can't be reached,
    the outcome is offered again and again, until it is taken or the claim turns out to be another's. Until then it is
    one of `open_attempts`, which the heartbeat renews.
    """

    @cached_property
    def _recorder(self) -> OutcomeRecorder:
        return OutcomeRecorder(self._store.workers, self._registry)

    def run(self, job_id: str, fence: int) -> bool:
        """Makes one attempt; False when this release no longer stands and nothing was done."""
        with about(job_id=job_id), self._open_attempts.holding(job_id, fence):
            claim = self._claim(job_id, fence)
            if claim is None:
                return False
            trace = trace_id(claim.traceparent)
            with about(attempt=claim.attempt, operation=claim.operation, downstream=claim.downstream, trace_id=trace):
                self._carry_out(claim)
        return True

    def _claim(self, job_id: str, fence: int) -> Claim | None:
        try:
            claim = self._store.claims.claim(
                job_id,
                fence,
                worker=self._worker,
                pid=os.getpid(),
                lease=self._lease,
                attempt_timeouts=self._attempt_timeouts,
            )
        except UNREACHABLE as error:
            # It may have been committed all the same, or wait in the server and be committed yet.
            log.warning("job %s: the database can't be reached, not claimed: %s", job_id, error)
            retry_until_answered(job_id, lambda: self._store.claims.disclaim(job_id, fence, worker=self._worker))
            self._notifier.wake_scheduler()  # it is due again
            return None
        if claim is None:
            log.info("job %s: release %d no longer stands", job_id, fence)
            self._notifier.wake_scheduler()
        return claim

    def _carry_out(self, claim: Claim) -> None:
        self._notifier.notify_attempt_began(claim.job_id)
        self._counts.observe(QUEUE_WAIT, claim.waited_seconds, claim.downstream)
        with _traced(claim) as (traced, span):
            outcome, began = self._attempt(traced)
            span.note("tidegate.outcome", word_of(outcome))
            if not isinstance(outcome, Succeeded | Polls | HandedBack):
                span.fail(outcome.message)
        call_seconds = _seconds_since(began)
        try:
            won = retry_until_answered(
                claim.job_id, lambda: self._recorder.record(claim, outcome, _seconds_since(began))
            )
        except Exception:
            # Not one of UNREACHABLE: the database will never take this outcome.
            log.exception("job %s: its outcome could not be stored", claim.job_id)
            outcome = NOT_STORED
            won = retry_until_answered(
                claim.job_id,
                lambda: self._recorder.record(claim, outcome, _seconds_since(began)),
                whatever_it_says=True,
            )
        # First what others wait for, then the rest.
        self._notifier.notify_jobs_changed(claim.job_id)
        self._wake(is_final=isinstance(outcome, Succeeded | Failed))
        self._count(claim, outcome, call_seconds, won=won)
        log.log(
            logging.INFO if won else logging.WARNING,
            "job %s: attempt %d of %s %s%s",
            claim.job_id,
            claim.attempt,
            claim.operation,
            told(outcome),
            "" if won else "; too late, another result stands",
        )

    def _attempt(self, claim: Claim) -> tuple[Outcome, float | None]:
        """The outcome, and when the call began, by the monotonic clock (None: it did not)."""
        try:
            operation = self._registry.operation(claim.operation)
        except UnknownOperation as error:
            log.warning("job %s: %s", claim.job_id, error)
            return UNKNOWN_HERE, None
        if claim.input is None:
            return HandedBack(reason="erased"), None
        claimed = clock.monotonic()
        if not self._start.reach_turn(claim):
            return HandedBack(reason="no place"), None
        start = self._start_of(claim, operation, since=claimed)
        outcome = self._run(claim, operation, claim.input, start)
        if claim.may_be_followed:
            self._hand_over((claim.job_id, claim.fence), outcome)
        return outcome, None if start.is_missed else start.began

    def _run(self, claim: Claim, operation: Operation, body: Body, start: Start) -> Outcome:
        reporter = ProgressReporter(
            lambda progress: self._progress(claim, progress),
            lambda: self._store.workers.counts(claim),
            lambda: start.ends,
        )
        attempt = Attempt(
            job_id=claim.job_id,
            number=claim.attempt,
            report=reporter.report,
            seconds_left=lambda: start.seconds_left,
            take_slot=lambda: self._take_slot(claim, reporter, start.ends),
            begin=start.begin,
            sent=start.sent,
            check=reporter.check,
            headers={"traceparent": claim.traceparent} if claim.traceparent else {},
            tokens=AttemptTokens(self._tokens, claim, lambda: start.seconds_left),
            poll_url=claim.poll_url,
        )

        def when_stopped() -> HandedBack | TryAgain:
            return reporter.timed_out or HandedBack(reason="no slot" if start.is_missed else "stopped")

        outcome = outcome_of(operation, body, attempt, max_result=self._max_result, when_stopped=when_stopped)
        if isinstance(outcome, HandedBack):  # whatever it says: nothing is given back of a call that may have gone out
            return replace(outcome, was_called=outcome.was_called or start.has_begun)
        if outcome is not reporter.timed_out:
            _warn_of_overrun(claim, operation, start.ends)
        return outcome

    def _take_slot(self, claim: Claim, reporter: ProgressReporter, ends: float) -> float:
        until = self._start.take_slot(claim, reporter.check_time, ends)
        self._counts.add(CALLS, claim.downstream)
        return until

    def _count(self, claim: Claim, outcome: Outcome, call_seconds: float | None, *, won: bool) -> None:
        what = claim.operation, claim.downstream
        self._counts.add(ATTEMPTS, *what, word_of(outcome))
        if call_seconds is not None:
            self._counts.observe(ATTEMPT_SECONDS, call_seconds, *what)
        if not won and not isinstance(outcome, HandedBack):
            self._counts.add(LATE, *what)

    def _progress(self, claim: Claim, progress: Progress) -> bool:
        counts = self._store.workers.progress(claim, progress, lease=self._lease)
        if counts:
            self._notifier.notify_jobs_changed(claim.job_id)
        return counts


@contextmanager
def _traced(claim: Claim) -> Iterator[tuple[Claim, Span]]:
    """Opens the attempt's span in the job's trace; yields the claim with it as the parent for the operation."""
    what = {"job.id": claim.job_id, "operation": claim.operation, "downstream": claim.downstream}
    with tracing.span("attempt", parent=claim.traceparent, kind="consumer", attempt=claim.attempt, **what) as span:
        yield (replace(claim, traceparent=span.traceparent) if tracing.is_on() else claim), span


def _warn_of_overrun(claim: Claim, operation: Operation, ends: float) -> None:
    """Logs that an attempt went on beyond its time. A thread can't be ended, and what it brought is a result."""
    over = clock.monotonic() - ends
    if over >= _OVERRUN_SECONDS:
        how = 'ask attempt.time_left, or declare it with queue="cpu", whose processes are ended'
        seconds = operation.attempt_timeout.total_seconds()
        log.warning(
            "job %s: attempt %d of %s ran %.1f s longer than it may (attempt_timeout %g s); %s",
            *(claim.job_id, claim.attempt, claim.operation, over, seconds, how),
        )


def _seconds_since(began: float | None) -> float | None:
    return None if began is None else clock.monotonic() - began
