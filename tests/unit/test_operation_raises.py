"""What the exceptions that a function raises on purpose mean for its attempt: PermanentError, Retry, Refused."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import JsonValue

from tidegate import operations
from tidegate.errors import OperationError
from tidegate.operations import outcome
from tidegate.operations.outcome import ErrorCode, Outcome, TryAgain
from tidegate.operations.python_operation import operation
from tidegate.operations.quota_fields import LONGEST
from tidegate.testing import run


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def outcome_of(error: Exception) -> Outcome:
    @operation(name="made")
    def made(params: JsonValue) -> None:
        raise error

    return run(made, None).outcome


def again(message: str, retry_after: timedelta | None) -> TryAgain:
    return TryAgain(code=ErrorCode.OPERATION_ERROR, message=message, retry_after=retry_after)


def refused(message: str, retry_after: timedelta | None) -> outcome.Refused:
    return outcome.Refused(message=message, retry_after=retry_after)


@pytest.mark.parametrize(("raised", "expected"), [(operations.Retry, again), (operations.Refused, refused)])
@pytest.mark.parametrize(
    ("after", "waits"),
    [
        (None, None),
        (timedelta(minutes=2), timedelta(minutes=2)),
        (30, timedelta(seconds=30)),
        (0.25, timedelta(milliseconds=250)),
        (0, timedelta(0)),
        (timedelta(days=31), LONGEST),
    ],
)
def test_a_function_says_when_its_job_may_come_back(
    raised: Any, expected: Any, after: Any, waits: timedelta | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert outcome_of(raised("it sleeps", after=after)) == expected("it sleeps", waits)
    assert caplog.text == ""


@pytest.mark.parametrize(("raised", "expected"), [(operations.Retry, again), (operations.Refused, refused)])
@pytest.mark.parametrize(
    ("after", "waits"),
    [
        (-1, timedelta(0)),
        (timedelta(seconds=-1), timedelta(0)),
        (float("-inf"), timedelta(0)),
        (timedelta(days=365), LONGEST),
        (365 * 86_400, LONGEST),
        (float("inf"), LONGEST),
        (1e300, LONGEST),
        (10**400, LONGEST),
        (10**5000, LONGEST),
        (-(10**5000), timedelta(0)),
        (float("nan"), None),
        ("soon", None),
        ("30", None),
        (True, None),
        ([1], None),
        (Unprintable(), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_wait_that_cannot_be_is_told_and_the_nearest_that_can_be_or_none_is_taken(
    raised: Any, expected: Any, after: Any, waits: timedelta | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert outcome_of(raised("it sleeps", after=after)) == expected("it sleeps", waits)

    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"job a-job: {raised.__name__}(after=")
    assert len(told) < 300


@pytest.mark.parametrize(("raised", "expected"), [(operations.Retry, again), (operations.Refused, refused)])
def test_without_words_the_name_is_the_message_and_long_ones_are_cut(raised: Any, expected: Any) -> None:
    assert outcome_of(raised()) == expected(raised.__name__, None)
    assert outcome_of(raised("x" * 100_000)) == expected("x" * 1000, None)


def test_an_own_kind_of_them_means_the_same() -> None:
    class CrmIsFull(operations.Refused):
        """A subclass, with a wait of its own."""

        def __init__(self) -> None:
            super().__init__("the CRM is full", after=60)

    assert outcome_of(CrmIsFull()) == refused("the CRM is full", timedelta(minutes=1))


def test_all_of_them_are_operation_errors_and_a_plain_one_is_as_any_exception() -> None:
    assert all(
        issubclass(kind, OperationError) for kind in (operations.PermanentError, operations.Retry, operations.Refused)
    )
    assert outcome_of(OperationError("plain")) == again("tidegate.errors.OperationError: plain", None)
