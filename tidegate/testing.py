"""What authors of operations test with: one attempt as a worker makes it, without database, broker and waiting."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic_core import to_json

from tidegate.errors import AttemptStopped
from tidegate.operations.attempt_outcome import TIMED_OUT, outcome_of, outcomes_of
from tidegate.operations.operation import MEGABYTE, Attempt, Body, Member, Operation, Progress, check_size
from tidegate.operations.outcome import BatchOutcome, Failed, HandedBack, Outcome, Refused, Split, Succeeded, TryAgain

__all__ = [
    "Failed",
    "FakeAttempt",
    "HandedBack",
    "Ran",
    "RanBatch",
    "Refused",
    "Split",
    "Succeeded",
    "TryAgain",
    "run",
    "run_batch",
]

_RAW = "application/octet-stream"


class FakeAttempt(Attempt):
    """An attempt without a worker: its time stands still until it is advanced, and its slots come at once.

    `on_report` is called with it after each report of progress, and may advance or cancel it.
    """

    def __init__(
        self,
        number: int = 1,
        *,
        seconds: float | timedelta = 600,
        job_id: str = "a-job",
        on_report: Callable[["FakeAttempt"], None] | None = None,
    ) -> None:
        self._left = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        self._on_report = on_report
        self.reports: list[Progress] = []
        self.slots = 0
        self.is_cancelled = False
        super().__init__(
            job_id=job_id,
            number=number,
            report=self._take_report,
            seconds_left=lambda: self._left,
            take_slot=self._count_slot,
            check=self._stop_if_over,
        )

    def advance(self, seconds: float) -> None:
        """Lets time pass. Once none is left, the next report or slot stops the attempt, as a worker would."""
        self._left -= seconds

    def cancel(self) -> None:
        """Cancels the job: the next report or slot stops the attempt."""
        self.is_cancelled = True

    def when_stopped(self) -> HandedBack | TryAgain:
        """What a worker makes of an attempt that was stopped: a failed one if its time is over, else none."""
        return TIMED_OUT if self._left <= 0 else HandedBack(reason="stopped")

    def _take_report(self, progress: Progress) -> None:
        self._stop_if_over()
        self.reports.append(progress)
        if self._on_report:
            self._on_report(self)
        self._stop_if_over()

    def _count_slot(self) -> None:
        self._stop_if_over()
        self.slots += 1

    def _stop_if_over(self) -> None:
        if self._left <= 0 or self.is_cancelled:
            raise AttemptStopped("stopped")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What an attempt came to.

    `result`: of one that succeeded, as a caller gets it: the JSON value, or the Body where it is no JSON; else None.
    `progress`: all reports. `slots`: how often it asked for one.
    """

    outcome: Outcome
    result: Any
    progress: Sequence[Progress]
    slots: int


def run(
    operation: Operation,
    params: Any,
    *,
    attempt: int | FakeAttempt = 1,
    seconds: float | timedelta | None = None,
    max_result: int = 5 * MEGABYTE,
) -> Ran:
    """Makes one attempt as a worker does, in this thread.

    `params`: a Body, or a value that is written as JSON; bytes are taken as they are. They are checked as a submit is:
    raises InvalidInput, MalformedBody, UnsupportedBody, BodyTooLarge. `attempt`: its number, or one to advance and
    cancel. `seconds`: its time, if that is not the operation's `attempt_timeout`. Whatever the function raises is an
    outcome.
    """
    attempt = _attempt(operation, attempt, seconds)
    body = _checked(operation, params)
    outcome = outcome_of(operation, body, attempt, max_result=max_result, when_stopped=attempt.when_stopped)
    return Ran(outcome=outcome, result=_result(outcome), progress=tuple(attempt.reports), slots=attempt.slots)


@dataclass(frozen=True, kw_only=True)
class RanBatch:
    """What the one call of a batch came to.

    `outcome`: one for each input, in their order; or one for the whole: Split (a worker tries the halves at once, and a
    job that is alone has its `alone`), TryAgain, Refused or HandedBack (all of them again, together). `results`: those
    of the inputs, as callers get them; None where there is none.
    """

    outcome: BatchOutcome
    results: Sequence[Any]
    progress: Sequence[Progress]
    slots: int


def run_batch(
    operation: Operation,
    inputs: Sequence[Any],
    *,
    attempt: int | FakeAttempt = 1,
    seconds: float | timedelta | None = None,
    max_result: int = 5 * MEGABYTE,
) -> RanBatch:
    """Makes the one call of a batch as a worker does, in this thread. All else is as in `run`, for each input."""
    attempt = _attempt(operation, attempt, seconds)
    bodies = [_checked(operation, each) for each in inputs]
    if operation.batch is None:
        raise TypeError(f"{operation.name} takes one job a call: declare a batch, or use run()")
    if not 1 <= len(bodies) <= operation.batch.max:
        raise ValueError(f"{operation.name} takes 1 to {operation.batch.max} jobs a call, not {len(bodies)}")
    number = attempt.number
    members = [Member(job_id=f"job-{place}", number=number, body=body) for place, body in enumerate(bodies, start=1)]
    outcome = outcomes_of(operation, lambda: members, attempt, max_result=max_result, when_stopped=attempt.when_stopped)
    results = [_result(each) for each in outcome] if isinstance(outcome, Sequence) else [None] * len(members)
    return RanBatch(outcome=outcome, results=tuple(results), progress=tuple(attempt.reports), slots=attempt.slots)


def _attempt(operation: Operation, attempt: int | FakeAttempt, seconds: float | timedelta | None) -> FakeAttempt:
    if isinstance(attempt, int):
        return FakeAttempt(attempt, seconds=operation.attempt_timeout if seconds is None else seconds)
    if seconds is not None:
        raise TypeError("the time of an attempt that is given is its own: FakeAttempt(seconds=…)")
    return attempt


def _checked(operation: Operation, params: Any) -> Body:
    body = _body(operation, params)
    check_size(operation, body)
    operation.check(body)
    return body


def _body(operation: Operation, params: Any) -> Body:
    if isinstance(params, Body):
        return params
    if isinstance(params, bytes):
        return Body(content=params, content_type=next(iter(operation.content_types), _RAW))
    return Body(content=to_json(params))


def _result(outcome: Outcome) -> Any:
    if not isinstance(outcome, Succeeded):
        return None
    if outcome.is_json:
        return json.loads(outcome.content)
    return Body(content=outcome.content, content_type=outcome.content_type)
