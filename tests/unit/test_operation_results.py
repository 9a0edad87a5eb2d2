"""What an operation returns, and what of it can be stored and sent."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, JsonValue

from tidegate.errors import PermanentError
from tidegate.operations.operation import Body
from tidegate.operations.outcome import ErrorCode, Failed, Outcome, Succeeded
from tidegate.operations.python_operation import PythonOperation, operation
from tidegate.testing import FakeAttempt


def run(made: PythonOperation, content: bytes = b"null") -> Outcome:
    return made.run(Body(content=content), FakeAttempt())


def returning(value: Any, hint: Any = Any) -> PythonOperation:
    def made(params: JsonValue) -> Any:
        return value

    made.__annotations__["return"] = hint
    return operation()(made)


def test_a_raw_body_goes_in_and_out_as_it_is() -> None:
    @operation()
    def raw(body: Body) -> Body:
        return body

    assert raw.input_schema() is None
    raw.check(Body(content=b"\x00\xff", content_type="what/ever"))
    assert raw.run(Body(content=b"\x00\xff", content_type="image/png"), FakeAttempt()) == Succeeded(
        content=b"\x00\xff", content_type="image/png", is_json=False
    )


@pytest.mark.parametrize(
    ("content_type", "content", "is_json"),
    [
        ("application/json", b'{"a": 1}', True),
        ("application/problem+json; charset=utf-8", b"[]", True),
        ("application/json", b"not json", False),
        ("text/plain", b"1", False),
    ],
)
def test_a_result_is_json_when_it_says_so_and_is(content_type: str, content: bytes, is_json: bool) -> None:
    outcome = run(returning(Body(content=content, content_type=content_type)))

    assert outcome == Succeeded(content=content, content_type=content_type, is_json=is_json)


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        ("text", "text/plain"),
        (None, "text/plain"),
        (b"x", None),
        (b"x", "t/" + "x" * 200),
        (b"x", "text/plain\r\nSet-Cookie: a=b"),
        (b"x", "text/\ud800"),
        (b"x", "text/\x00"),
    ],
)
def test_a_returned_body_that_cannot_be_sent_is_a_final_failure(content: Any, content_type: Any) -> None:
    outcome = run(returning(Body(content=content, content_type=content_type)))

    assert isinstance(outcome, Failed)
    assert "can't be sent" in outcome.message


def _loop() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def _deep() -> list[Any]:
    made: list[Any] = []
    for _ in range(3000):
        made = [made]
    return made


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (object(), Any),
        (object(), JsonValue),
        (_loop(), Any),
        (_loop(), JsonValue),
        (_deep(), Any),
        ("\ud800", Any),
        ("\ud800", str),
        (b"\xff", Any),
        ("x", int),
        ({1, 2}, JsonValue),
        ((value for value in [object()]), Any),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_result_that_cannot_be_written_is_a_final_failure(value: Any, hint: Any) -> None:
    outcome = run(returning(value, hint))

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.OPERATION_ERROR
    assert outcome.message.startswith("made returned ")
    assert len(outcome.message) <= 1000


class Reading(BaseModel):
    value: float | None = None
    more: Any = None


class AsText(Reading):
    model_config = ConfigDict(ser_json_inf_nan="strings")


class AsConstant(Reading):
    model_config = ConfigDict(ser_json_inf_nan="constants")


@dataclass
class Point:
    x: float


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize("number", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize(
    ("value_of", "hint"),
    [
        (lambda number: number, float),
        (lambda number: number, Any),
        (lambda number: [1.0, number], list[float]),
        (lambda number: {"a": [None, {"b": (number,)}]}, Any),
        (lambda number: {number}, set[float]),
        (lambda number: {"null": None, "a": number}, Any),
        (lambda number: Reading(value=number), Reading),
        (lambda number: Reading(more=[Point(number)]), Reading),
        (lambda number: [Reading(), Reading(more=Reading(value=number))], Any),
        (Point, Point),
        (lambda number: (each for each in [None, number]), Any),
        (lambda number: (each for each in [1.0, number]), list[float]),
        (lambda number: AsConstant(value=number), AsConstant),
    ],
)
def test_a_number_that_json_does_not_know_is_a_final_failure_and_never_a_null(
    number: float, value_of: Callable[[float], Any], hint: Any
) -> None:
    outcome = run(returning(value_of(number), hint))

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.OPERATION_ERROR
    assert outcome.message.startswith(f"made returned {number}, a number that JSON does not know")


@pytest.mark.parametrize(
    ("value", "hint", "written"),
    [
        ([None, {"a": None}, "null", "null null"], Any, [None, {"a": None}, "null", "null null"]),
        (AsText(value=NAN), AsText, {"value": "NaN", "more": None}),
        ((each for each in [None, 1.5]), Any, [None, 1.5]),
        ("NaN", str, "NaN"),
    ],
)
def test_a_null_that_was_meant_is_a_result(value: Any, hint: Any, written: Any) -> None:
    outcome = run(returning(value, hint))

    assert isinstance(outcome, Succeeded), outcome
    assert outcome.is_json
    assert json.loads(outcome.content) == written


def test_a_permanent_error_is_a_final_failure_and_any_other_goes_to_the_runner() -> None:
    def failing(error: Exception) -> PythonOperation:
        def made(params: JsonValue) -> None:
            raise error

        return operation()(made)

    assert run(failing(PermanentError("no"))) == Failed(code=ErrorCode.OPERATION_ERROR, message="no")
    assert run(failing(PermanentError())) == Failed(code=ErrorCode.OPERATION_ERROR, message="PermanentError")
    with pytest.raises(RuntimeError, match="maybe"):
        run(failing(RuntimeError("maybe")))
