"""One attempt at one job: claim it, wait for its slot, run its operation, record how it ended."""

import logging
import os
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from tidegate import clock
from tidegate.database import UNREACHABLE
from tidegate.errors import AttemptStopped, UnknownOperation
from tidegate.job import Claim
from tidegate.operations import Attempt, Body, Operation, Progress, Registry
from tidegate.outcomes import ErrorCode, Failed, HandedBack, Outcome, Refused, Succeeded, TryAgain
from tidegate.store import Store
from tidegate.wake import Bell

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

# A call that would start later than this after its slot takes a new one: no stall ever turns into a burst.
LATE_SECONDS = 0.02
# A new slot further away is not waited for in a thread that others need.
PATIENCE = timedelta(seconds=1)
_UNKNOWN_AGAIN = timedelta(seconds=5)
REPORT_EVERY_SECONDS = 0.25
MAX_PAUSE = timedelta(minutes=5)
_RECORD_AGAIN_SECONDS = (0.1, 0.5, 1.0, 2.0)


class Runner:
    """Runs what messages name. A message is only a hint: the claim decides whether there is anything to do.

    Once claimed, a job is not let go before the database has said what became of it: while it can't be reached,
    the outcome is offered again and again, until it is taken or the claim turns out to be another's.
    """

    def __init__(
        self, store: Store, registry: Registry, *, worker: str, lease: timedelta, max_result: int, bell: Bell
    ) -> None:
        self._store = store
        self._registry = registry
        self._worker = worker
        self._lease = lease
        self._max_result = max_result
        self._bell = bell
        self._attempt_timeouts = {name: operation.attempt_timeout for name, operation in registry.operations.items()}

    def run(self, job_id: str, fence: int) -> bool:
        """Makes one attempt; False when this release no longer stands and nothing was done."""
        try:
            claim = self._store.workers.claim(
                job_id,
                fence,
                worker=self._worker,
                pid=os.getpid(),
                lease=self._lease,
                attempt_timeouts=self._attempt_timeouts,
            )
        except UNREACHABLE as error:
            # It may have been committed all the same, and the heartbeat would renew for ever what nobody works on.
            log.warning("job %s: the database can't be reached, not claimed: %s", job_id, error)
            _until_answered(job_id, lambda: self._store.workers.disclaim(job_id, fence, worker=self._worker))
            return False
        if claim is None:
            log.info("job %s: release %d no longer stands", job_id, fence)
            self._bell.ring()
            return False
        outcome, call_seconds = self._attempt(claim)
        try:
            won = _until_answered(claim.job_id, lambda: self._record(claim, outcome, call_seconds))
        except Exception:
            # Not one of UNREACHABLE: the database will never take this outcome as it is. Without another the job
            # would run until its deadline, for its worker lives.
            log.exception("job %s: its outcome could not be stored", claim.job_id)
            outcome = Failed(code=ErrorCode.OPERATION_ERROR, message="the outcome could not be stored")
            won = _until_answered(claim.job_id, lambda: self._record(claim, outcome, call_seconds))
        log.log(
            logging.INFO if won else logging.WARNING,
            "job %s: attempt %d of %s %s%s",
            claim.job_id,
            claim.attempt,
            claim.operation,
            _told(outcome),
            "" if won else "; too late, another result stands",
        )
        self._bell.ring()
        return True

    def _attempt(self, claim: Claim) -> tuple[Outcome, float | None]:
        """The outcome, and the seconds since the call began (None: it did not)."""
        try:
            operation = self._registry.operation(claim.operation)
        except UnknownOperation as error:
            # During a rolling upgrade another worker may know it; if none ever does, the deadline ends the job.
            log.warning("job %s: %s", claim.job_id, error)
            return HandedBack(reason="unknown here", after=_UNKNOWN_AGAIN), None
        body = _until_answered(claim.job_id, lambda: self._store.workers.input_of(claim.job_id))
        if body is None:
            return HandedBack(reason="erased"), None
        slot_due = self._reach_slot(claim)
        if slot_due is None:
            return HandedBack(reason="no slot"), None
        started = clock.monotonic()
        ends = min(slot_due + operation.attempt_timeout.total_seconds(), claim.deadline_due)
        outcome = self._run(claim, operation, body, ends)
        return outcome, clock.monotonic() - started

    def _reach_slot(self, claim: Claim) -> float | None:
        """Waits for the slot; one that was missed is replaced. None: the next is too far to wait for."""
        due: float | None = claim.slot_due
        while due is not None:
            clock.sleep(due - clock.monotonic())
            if not claim.is_paced or clock.monotonic() - due <= LATE_SECONDS:
                return max(due, clock.monotonic())
            log.info(
                "job %s: %.0f ms late for its slot, takes a new one", claim.job_id, 1e3 * (clock.monotonic() - due)
            )
            due = _until_answered(claim.job_id, lambda: self._store.lanes.take_slot(claim, within=PATIENCE)).due
        return None

    def _take_slot(self, claim: Claim, reporter: "_Reporter") -> None:
        """For attempt.slot(): waits for a slot of its own, at most until the attempt's end."""
        while True:
            offer = _until_answered(claim.job_id, lambda: self._store.lanes.take_slot(claim, within=PATIENCE))
            if not offer.counts:
                raise AttemptStopped("stopped")
            reporter.check_time()
            if offer.due is None:
                clock.sleep(min(offer.wait_seconds, PATIENCE.total_seconds(), reporter.ends - clock.monotonic()))
                continue
            clock.sleep(offer.due - clock.monotonic())
            if clock.monotonic() - offer.due <= LATE_SECONDS:
                return

    def _run(self, claim: Claim, operation: Operation, body: Body, ends: float) -> Outcome:
        reporter = _Reporter(lambda progress: self._store.workers.progress(claim, progress, lease=self._lease), ends)
        attempt = Attempt(
            job_id=claim.job_id,
            number=claim.attempt,
            report=reporter.report,
            seconds_left=lambda: ends - clock.monotonic(),
            take_slot=lambda: self._take_slot(claim, reporter),
            headers={"traceparent": claim.traceparent} if claim.traceparent else {},
        )
        try:
            outcome = operation.run(body, attempt)
        except AttemptStopped:
            return reporter.timed_out or HandedBack(reason="stopped")
        except (Exception, SystemExit) as error:  # whatever an operation raises is a failed attempt
            log.exception("job %s: %s raised", claim.job_id, claim.operation)
            return TryAgain(code=ErrorCode.OPERATION_ERROR, message=_described(error))
        if isinstance(outcome, Succeeded) and len(outcome.content) > self._max_result:
            size = f"{len(outcome.content)} bytes, and {self._max_result} is the most"
            return Failed(code=ErrorCode.OPERATION_ERROR, message=f"the result is too large: {size}")
        return outcome

    def _record(self, claim: Claim, outcome: Outcome, call_seconds: float | None) -> bool:
        store = self._store.workers
        match outcome:
            case Succeeded():
                return store.succeed(claim, outcome, call_seconds=call_seconds)
            case Failed():
                return store.fail(claim, _error(outcome), call_seconds=call_seconds)
            case TryAgain():
                return self._try_again(claim, outcome, call_seconds)
            case Refused():
                after = min(outcome.retry_after or _backoff(claim.refusals), MAX_PAUSE)
                error = {"code": ErrorCode.DOWNSTREAM_ERROR, "message": outcome.message}
                return store.refused(claim, error, after=after, call_seconds=call_seconds)
            case HandedBack():
                return store.hand_back(claim, after=outcome.after, outcome=outcome.reason)

    def _try_again(self, claim: Claim, outcome: TryAgain, call_seconds: float | None) -> bool:
        operation = self._registry.operation(claim.operation)
        error = _error(outcome)
        if claim.is_last and operation.retry.attempts > 1:
            error = {**error, "code": ErrorCode.ATTEMPTS_EXHAUSTED}
        after = max(operation.retry.delay_after(claim.attempt - claim.losses), outcome.retry_after or timedelta(0))
        return self._store.workers.try_again(
            claim,
            error,
            after=after,
            is_spent=claim.is_last,
            blames_downstream=outcome.code is ErrorCode.DOWNSTREAM_ERROR,
            call_seconds=call_seconds,
        )


class _Reporter:
    """Writes an attempt's progress a few times a second, and stops an attempt that no longer counts."""

    def __init__(self, write: Callable[[Progress], bool], ends: float) -> None:
        self._write = write
        self.ends = ends
        self._next_write = 0.0
        self.timed_out: TryAgain | None = None

    def check_time(self) -> None:
        """Stops the attempt when its time is over; that is a failed attempt, where any other stop is none."""
        if clock.monotonic() >= self.ends:
            self.timed_out = TryAgain(
                code=ErrorCode.OPERATION_ERROR, message="the attempt took longer than its timeout"
            )
            raise AttemptStopped("timed out")

    def report(self, progress: Progress) -> None:
        self.check_time()
        now = clock.monotonic()
        if now < self._next_write:
            return
        self._next_write = now + REPORT_EVERY_SECONDS
        try:
            counts = self._write(progress)
        except UNREACHABLE as error:
            log.warning("progress not written, the database can't be reached: %s", error)
            return
        if not counts:
            raise AttemptStopped("stopped")


def _until_answered(job_id: str, ask: Callable[[], Answer]) -> Answer:
    waits = iter(_RECORD_AGAIN_SECONDS)
    while True:
        try:
            return ask()
        except UNREACHABLE as error:
            log.warning("job %s: the database can't be reached, trying on: %s", job_id, error)
            clock.sleep(next(waits, _RECORD_AGAIN_SECONDS[-1]))


def _backoff(refusals: int) -> timedelta:
    """How long a lane rests after so many refusals in a row that named no time."""
    seconds: int = 2 ** min(refusals, 6)
    return timedelta(seconds=seconds)


def _error(outcome: Failed | TryAgain) -> dict[str, Any]:
    return {"code": outcome.code, "message": outcome.message, **outcome.detail}


def _described(error: BaseException) -> str:
    # By traceback, which knows what to say of an error whose own text can't be made.
    text = "".join(traceback.format_exception_only(error)).strip()
    return text[:1000].encode("utf-8", "replace").decode()


def _told(outcome: Outcome) -> str:
    match outcome:
        case Succeeded():
            return f"succeeded ({len(outcome.content)} bytes)"
        case Failed() | TryAgain():
            return f"failed: {outcome.message}"
        case Refused():
            return f"was refused: {outcome.message}"
        case HandedBack():
            return f"handed back: {outcome.reason}"
