"""An operation can be called like the function that it was made of, as its author's unit tests do."""

from dataclasses import dataclass

import pytest
from pydantic import JsonValue

from tasks.operations.csv_profile import csv_profile
from tidegate.errors import PermanentError
from tidegate.operations.operation import Attempt, Body
from tidegate.operations.python_operation import operation
from tidegate.testing import FakeAttempt


@dataclass
class Order:
    sku: str
    quantity: int


@operation()
def total(params: Order) -> int:
    """Has no attempt."""
    return 5 * params.quantity


@operation(paced="calls")
def crawl(params: list[str], attempt: Attempt) -> tuple[int, list[str]]:
    """Uses all that an attempt has."""
    found = []
    for page in attempt.track(params, "crawling"):
        attempt.slot()
        found.append(page.upper())
    assert attempt.time_left.total_seconds() > 0
    return attempt.number, found


def test_it_returns_what_the_function_returns() -> None:
    assert total(Order("A-100", 3)) == 15
    assert total(params=Order("A-100", 3)) == 15


def test_a_function_that_wants_an_attempt_is_given_one_that_reports_nowhere_and_whose_slots_are_free() -> None:
    assert crawl(["a", "b"]) == (1, ["A", "B"]), "the tuple itself, and not its JSON"
    assert crawl(params=["a"]) == (1, ["A"])


def test_an_attempt_may_be_given_as_the_worker_gives_it() -> None:
    attempt = FakeAttempt(2)

    assert crawl(["a"], attempt) == (2, ["A"])
    assert crawl(params=["a"], attempt=attempt) == (2, ["A"])
    assert ([each.done for each in attempt.reports], attempt.slots) == ([0, 1, 0, 1], 2)


def test_an_attempt_that_may_be_none_is_given_too_as_a_worker_does_unless_it_is_said() -> None:
    @operation()
    def optional(params: JsonValue, attempt: Attempt | None = None) -> bool:
        return attempt is not None

    assert optional(1) is True
    assert optional(1, None) is False


def test_the_time_that_is_left_is_that_of_one_attempt() -> None:
    @operation(timeout="1m", attempt_timeout="20s")
    def left(params: JsonValue, attempt: Attempt) -> float:
        return attempt.time_left.total_seconds()

    assert 10 < left(None) <= 20


def test_what_it_raises_arrives() -> None:
    @operation()
    def failing(params: JsonValue) -> None:
        raise PermanentError("no")

    with pytest.raises(PermanentError, match="no"):
        failing(None)


def test_arguments_that_the_function_does_not_take_are_refused_as_by_the_function() -> None:
    for operation_made, arguments, named in (
        (total, (), {}),
        (total, (Order("A", 1), FakeAttempt()), {}),
        (crawl, ([],), {"other": 1}),
    ):
        with pytest.raises(TypeError, match=r"argument"):
            operation_made(*arguments, **named)


def test_an_operation_of_the_repository_is_called_so() -> None:
    profile = csv_profile(Body(content=b"a,b\n1,x\n2,y\n", content_type="text/csv"))

    assert [column.name for column in profile.columns] == ["a", "b"]
