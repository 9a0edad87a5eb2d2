"""What authors of operations test with: one attempt as a worker makes it, without database, broker and waiting."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic_core import to_json

from tidegate.errors import AttemptStopped
from tidegate.operations.attempt_outcome import TIMED_OUT, outcome_of
from tidegate.operations.operation import MEGABYTE, Attempt, Body, Operation, Progress, check_size
from tidegate.operations.outcome import Failed, HandedBack, Outcome, Refused, Succeeded, TryAgain

__all__ = ["Failed", "FakeAttempt", "HandedBack", "Ran", "Refused", "Succeeded", "TryAgain", "run"]

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

    def when_stopped(self) -> Outcome:
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
    if isinstance(attempt, int):
        attempt = FakeAttempt(attempt, seconds=operation.attempt_timeout if seconds is None else seconds)
    elif seconds is not None:
        raise TypeError("the time of an attempt that is given is its own: FakeAttempt(seconds=…)")
    body = _body(operation, params)
    check_size(operation, body)
    operation.check(body)
    outcome = outcome_of(operation, body, attempt, max_result=max_result, when_stopped=attempt.when_stopped)
    return Ran(outcome=outcome, result=_result(outcome), progress=tuple(attempt.reports), slots=attempt.slots)


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
