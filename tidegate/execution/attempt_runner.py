"""What the runners of single jobs and of batches share: their surroundings, a call's start, and whom its end tells."""

from datetime import timedelta
from typing import Protocol

from tidegate import clock
from tidegate.execution.batch_store import BatchStore
from tidegate.execution.claims import ClaimStore
from tidegate.execution.handoff import Handoff
from tidegate.execution.open_attempts import OpenAttempts
from tidegate.execution.outcome_store import OutcomeStore
from tidegate.execution.slot_store import SlotStore
from tidegate.execution.slot_wait import SlotWait, Start
from tidegate.execution.token_keeper import TokenKeeper
from tidegate.execution.token_store import TokenStore
from tidegate.jobs.job import Call, Claim
from tidegate.metrics.counters import Counts
from tidegate.metrics.families import CALLS, SLOT_WAIT
from tidegate.notify.notifier import Notifier
from tidegate.operations.operation import Operation
from tidegate.operations.outcome import ErrorCode, Failed, HandedBack, Outcome, Refused, Succeeded, TryAgain
from tidegate.operations.registry import Registry

NOT_STORED = Failed(code=ErrorCode.OPERATION_ERROR, message="the outcome could not be stored")
"""Recorded in place of an outcome that the database will never take. Without one the job would run until its deadline,
for its worker lives. If this is refused too, the fault is not in what it says."""
UNKNOWN_HERE = HandedBack(reason="unknown here", after=timedelta(seconds=5))
"""Of a job whose operation this worker does not know. During a rolling upgrade another may; if none ever does, the
deadline ends the job."""


class Stores(Protocol):
    """The stores that a runner needs (`tidegate.stores.Store` has them)."""

    counts: Counts
    claims: ClaimStore
    workers: OutcomeStore
    batches: BatchStore
    slots: SlotStore
    tokens: TokenStore


class AttemptRunner:
    """Makes attempts in a worker's process. `worker`: in whose name it claims; `max_result`: in bytes."""

    def __init__(
        self,
        store: Stores,
        registry: Registry,
        *,
        worker: str,
        lease: timedelta,
        max_result: int,
        notifier: Notifier,
        handoff: Handoff,
        open_attempts: OpenAttempts | None = None,
        tokens: TokenKeeper | None = None,
    ) -> None:
        self._store = store
        self._counts = store.counts
        self._registry = registry
        self._worker = worker
        self._lease = lease
        self._max_result = max_result
        self._notifier = notifier
        self._handoff = handoff
        self._open_attempts = open_attempts or OpenAttempts()
        self._tokens = tokens or TokenKeeper(store.tokens)
        self._start = SlotWait(store.slots, handoff)
        self._attempt_timeouts = {name: operation.attempt_timeout for name, operation in registry.operations.items()}

    def _start_of(self, claim: Claim, operation: Operation, *, since: float) -> Start:
        """The start of a claim's call, which is counted when it begins; `since`: when it was claimed (monotonic)."""

        def on_begin() -> None:
            self._counts.observe(SLOT_WAIT, clock.monotonic() - since, claim.downstream)
            if not operation.paced_by_calls:
                self._counts.add(CALLS, claim.downstream)

        return Start(self._start, claim, timeout=operation.attempt_timeout, on_begin=on_begin)

    def _hand_over(self, call: Call, outcome: Outcome) -> None:
        """Tells the follower of a call that has ended, or all that the downstream may be in trouble."""
        match outcome:
            case Succeeded() | Failed() | HandedBack(was_called=True):
                self._handoff.notify_call_ended(call)
            case Refused() | TryAgain():  # a follower of this call then reads the rows
                self._handoff.alarm()

    def _wake(self, *, is_final: bool) -> None:
        """Wakes the scheduler: places are free, or jobs are due again, by and by. Callers are told before."""
        if is_final:
            self._notifier.notify_place_freed()
        else:
            self._notifier.wake_scheduler()
        clock.yield_thread()  # so that the notifier's thread publishes now, not when this one next waits
