"""Python operations of a list: what `@operation(batch=…)` takes, and what becomes of each job of a call."""

import asyncio
import typing
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field

from tests.unit.test_declaration import refusal_of
from tidegate.errors import BodyTooLarge, InvalidInput, UnsupportedBody
from tidegate.operations import Attempt, Batch, Body, PermanentError, Retry, operation
from tidegate.operations import Refused as RefusedError
from tidegate.operations.attempt_outcome import outcomes_of
from tidegate.operations.operation import JSON, Member
from tidegate.operations.outcome import ErrorCode
from tidegate.operations.python_operation import PythonOperation
from tidegate.testing import (
    Failed,
    FakeAttempt,
    HandedBack,
    RanBatch,
    Refused,
    Split,
    Succeeded,
    TryAgain,
    run,
    run_batch,
)


class Text(BaseModel):
    text: str = Field(min_length=1)


class Vector(BaseModel):
    values: list[float]


@operation(batch=3)
def embed(texts: list[Text]) -> list[Vector | PermanentError]:
    """The length of each text."""
    return [Vector(values=[len(each.text)]) if each.text != "bad" else PermanentError("no words") for each in texts]


def returning(returned: Any, *, hint: Any = list[int]) -> PythonOperation:
    """An operation of integers that returns or raises this, whatever it is given."""

    def make(numbers: list[int]) -> Any:
        if isinstance(returned, BaseException):
            raise returned
        return returned

    make.__annotations__["return"] = hint
    return operation(batch=3)(make)


def outcomes(ran: RanBatch) -> Sequence[object]:
    assert isinstance(ran.outcome, Sequence), ran.outcome
    return ran.outcome


def test_a_function_of_a_list_is_called_once_and_each_job_has_its_item() -> None:
    ran = run_batch(embed, [{"text": "to be"}, {"text": "bad"}, {"text": "or"}])

    assert outcomes(ran) == (
        Succeeded(content=b'{"values":[5.0]}', content_type=JSON, is_json=True),
        Failed(code=ErrorCode.OPERATION_ERROR, message="no words"),
        Succeeded(content=b'{"values":[2.0]}', content_type=JSON, is_json=True),
    )
    assert ran.results == ({"values": [5.0]}, None, {"values": [2.0]})


def test_what_callers_send_is_one_item() -> None:
    assert embed.batch == Batch(max=3)
    schema = embed.input_schema()
    assert schema is not None
    assert (schema["type"], list(schema["properties"])) == ("object", ["text"])
    assert embed.content_types == (JSON,)
    embed.check(Body(content=b'{"text": "a"}'))
    with pytest.raises(InvalidInput, match="1 fault"):
        embed.check(Body(content=b'{"text": ""}'))
    with pytest.raises(InvalidInput):
        run_batch(embed, [{"text": "good"}, {"text": ""}])
    with pytest.raises(UnsupportedBody):
        run(embed, Body(content=b"a", content_type="text/plain"))


def test_it_is_called_as_the_function_that_it_was() -> None:
    assert embed([Text(text="abc")]) == [Vector(values=[3])]


def test_one_job_alone_is_a_list_of_one() -> None:
    assert run(embed, {"text": "abc"}).result == {"values": [3.0]}
    assert run(embed, {"text": "bad"}).outcome == Failed(code=ErrorCode.OPERATION_ERROR, message="no words")
    assert run(returning(ValueError("no")), 1).outcome == TryAgain(
        code=ErrorCode.OPERATION_ERROR, message="ValueError: no"
    )
    assert run(returning(PermanentError("no")), 1).outcome == Failed(code=ErrorCode.OPERATION_ERROR, message="no")
    assert isinstance(run(returning([]), 1).outcome, Failed)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (PermanentError("no"), Failed(code=ErrorCode.OPERATION_ERROR, message="no")),
        (
            Retry("later", after=5),
            TryAgain(code=ErrorCode.OPERATION_ERROR, message="later", retry_after=timedelta(seconds=5)),
        ),
        (RefusedError("full", after=5), Refused(message="full", retry_after=timedelta(seconds=5))),
        (ValueError("why"), TryAgain(code=ErrorCode.OPERATION_ERROR, message="ValueError: why")),
        (
            asyncio.CancelledError(),
            TryAgain(code=ErrorCode.OPERATION_ERROR, message="asyncio.exceptions.CancelledError"),
        ),
    ],
)
def test_an_exception_in_the_list_is_that_jobs_alone(item: BaseException, expected: object) -> None:
    first, second = outcomes(run_batch(returning([item, 2]), [1, 2]))

    assert first == expected
    assert second == Succeeded(content=b"2", content_type=JSON, is_json=True)


def test_a_result_that_is_none_of_its_type_fails_that_job_alone() -> None:
    first, second, third = outcomes(run_batch(returning(["x", 2, float("nan")], hint=list[float]), [1, 2, 3]))

    assert isinstance(first, Failed)
    assert "which its declared result can't hold" in first.message
    assert second == Succeeded(content=b"2.0", content_type=JSON, is_json=True)
    assert isinstance(third, Failed)
    assert "a number that JSON does not know" in third.message


def test_a_result_that_is_too_large_fails_that_job_alone() -> None:
    ran = run_batch(returning(["x" * 100, "y"], hint=list[str]), [1, 2], max_result=50)

    assert [type(each) for each in outcomes(ran)] == [Failed, Succeeded]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError("why"), Split(alone=TryAgain(code=ErrorCode.OPERATION_ERROR, message="ValueError: why"))),
        (SystemExit(3), Split(alone=TryAgain(code=ErrorCode.OPERATION_ERROR, message="SystemExit: 3"))),
        (PermanentError("no"), Split(alone=Failed(code=ErrorCode.OPERATION_ERROR, message="no"))),
        (
            Retry("later", after=5),
            TryAgain(code=ErrorCode.OPERATION_ERROR, message="later", retry_after=timedelta(seconds=5)),
        ),
        (RefusedError("full", after=5), Refused(message="full", retry_after=timedelta(seconds=5))),
    ],
)
def test_what_is_raised_is_of_all_of_them(raised: BaseException, expected: object) -> None:
    """Halves are tried where the content may be the reason; else all go again together."""
    ran = run_batch(returning(raised), [1, 2])

    assert ran.outcome == expected
    assert ran.results == (None, None)


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        ([1], "1 results for 2 inputs"),
        ([1, 2, 3], "3 results for 2 inputs"),
        (None, "NoneType for 2 inputs"),
        ({"a": 1, "b": 2}, "dict for 2 inputs"),
        ("ab", "str for 2 inputs"),
    ],
)
def test_a_list_of_another_length_or_none_fails_the_whole(returned: Any, what: str) -> None:
    outcome = run_batch(returning(returned), [1, 2]).outcome

    assert isinstance(outcome, Split)
    assert isinstance(outcome.alone, Failed)
    assert what in outcome.alone.message


@pytest.mark.parametrize("returned", [(1, 2), (each for each in (1, 2))])
def test_a_tuple_or_a_generator_does_as_well(returned: Any) -> None:
    assert run_batch(returning(returned), [1, 2]).results == (1, 2)


@operation(queue="io", batch=Batch(max=10, linger=timedelta(milliseconds=20)))
async def fetch_all(names: list[str], attempt: Attempt) -> list[str | Exception]:
    """Each name after a moment, but for one."""

    async def fetch(name: str) -> str:
        await asyncio.sleep(0)
        if name == "bad":
            raise PermanentError("there is none")
        return f"{name} of {attempt.job_id}"

    attempt.progress(1, len(names))
    return typing.cast("list[str | Exception]", await asyncio.gather(*map(fetch, names), return_exceptions=True))


def test_a_coroutine_has_the_batchs_attempt_and_may_gather_exceptions() -> None:
    ran = run_batch(fetch_all, ["a", "bad"], attempt=FakeAttempt(job_id="the-batch"))

    assert ran.results == ("a of the-batch", None)
    assert outcomes(ran)[1] == Failed(code=ErrorCode.OPERATION_ERROR, message="there is none")
    assert [report.total for report in ran.progress] == [2]


def test_a_stop_is_of_all_of_them() -> None:
    @operation(batch=3)
    def stops(numbers: list[int], attempt: Attempt) -> list[int]:
        for _ in attempt.track(numbers):
            pass
        return numbers

    cancelled = FakeAttempt(on_report=FakeAttempt.cancel)
    assert run_batch(stops, [1, 2], attempt=cancelled).outcome == HandedBack(reason="stopped")
    assert isinstance(run_batch(stops, [1, 2], seconds=0).outcome, TryAgain)


def members(*inputs: bytes) -> Iterator[Member]:
    return (Member(job_id=f"job-{n}", number=1, body=Body(content=each)) for n, each in enumerate(inputs))


def call(made: PythonOperation, *inputs: bytes) -> object:
    return outcomes_of(
        made, lambda: list(members(*inputs)), FakeAttempt(), max_result=1000, when_stopped=FakeAttempt().when_stopped
    )


def test_an_input_from_before_a_change_of_its_type_is_left_out_and_fails_alone() -> None:
    called: list[list[int]] = []

    @operation(batch=3)
    def double(numbers: list[int]) -> list[int]:
        called.append(numbers)
        return [2 * each for each in numbers]

    first, second, third = typing.cast("Sequence[object]", call(double, b"1", b'"x"', b"3"))
    assert called == [[1, 3]]
    assert (first, third) == tuple(Succeeded(content=each, content_type=JSON, is_json=True) for each in (b"2", b"6"))
    assert isinstance(second, TryAgain)
    assert "InvalidInput" in second.message
    called.clear()

    assert isinstance(typing.cast("Sequence[object]", call(double, b"{"))[0], TryAgain)
    assert called == [], "nobody is left"


def test_members_are_asked_for_when_the_attempt_has_begun() -> None:
    happened: list[str] = []

    class Told(FakeAttempt):
        def begin(self) -> float:
            happened.append("begin")
            return 1.0

    def asked() -> list[Member]:
        happened.append("members")
        return list(members(b"1"))

    made = returning([1])
    outcomes_of(made, asked, Told(), max_result=100, when_stopped=FakeAttempt().when_stopped)
    assert happened == ["begin", "members"]


def test_an_input_that_would_fit_into_no_call_is_refused() -> None:
    @operation(batch=Batch(max=3, max_bytes=10))
    def small(texts: list[str]) -> list[str]:
        return texts

    assert small.max_body == 10
    with pytest.raises(BodyTooLarge):
        run(small, "x" * 20)


def test_no_more_are_tried_than_a_call_takes() -> None:
    with pytest.raises(ValueError, match="takes 1 to 3 jobs a call, not 4"):
        run_batch(embed, [{"text": "a"}] * 4)

    @operation()
    def one(number: int) -> int:
        return number

    with pytest.raises(TypeError, match="one takes one job a call"):
        run_batch(one, [1])


def test_a_result_may_be_nothing() -> None:
    def nothing(numbers: list[int]) -> list[None]:
        return [None for _ in numbers]

    assert run_batch(operation(batch=10)(nothing), [1, 2]).results == (None, None)


def listed(numbers: list[int]) -> list[int]:
    return numbers


def of_one(number: int) -> list[int]:
    return [number]


def unlisted_result(numbers: list[int]) -> int:
    return len(numbers)


def no_result(numbers: list[int]):  # type: ignore[no-untyped-def] # that is the fault
    return numbers


def bare(numbers: list) -> list[int]:  # type: ignore[type-arg] # that is the fault
    return numbers


def raw(bodies: list[Body]) -> list[int]:
    return [len(each.content) for each in bodies]


def several(first: list[int], second: list[int], third: list[int]) -> list[int]:
    return first + second + third


def by_calls(numbers: list[int], attempt: Attempt) -> list[int]:
    return numbers


@pytest.mark.parametrize(
    ("function", "options", "told"),
    [
        (
            of_one,
            {"batch": 10},
            "its function takes the inputs of several jobs: annotate number as list[Params]",
        ),
        (bare, {"batch": 10}, "annotate numbers as list[Params]"),
        (unlisted_result, {"batch": 10}, "batch: its function returns a result for each input, in order"),
        (no_result, {"batch": 10}, "annotate it as -> list[Result]"),
        (raw, {"batch": 10}, "batch: a raw Body does not go with it"),
        (several, {"batch": 10}, "write it as def several(params: list[Params], attempt: Attempt) -> list[Result]"),
        (by_calls, {"batch": 10, "paced": "calls"}, 'paced: with a batch the whole call takes one slot, so "calls"'),
        (listed, {"batch": 1}, "batch: a number of jobs from 2 to 1000, not 1; left out: one"),
        (listed, {"batch": 1001}, "batch: a number of jobs from 2 to 1000, not 1001"),
        (listed, {"batch": True}, "batch: write the most jobs of one call, batch=10, or Batch(max=10), not True"),
        (listed, {"batch": "10"}, "batch: write the most jobs of one call"),
        (listed, {"batch": {"max": 10}}, "batch: write the most jobs of one call"),
        (listed, {"batch": Batch(max="10")}, "batch: a number of jobs"),  # type: ignore[arg-type] # that is the fault
        (listed, {"batch": Batch(max=5, linger=timedelta(minutes=2))}, "batch: linger is a timedelta of at most"),
        (listed, {"batch": Batch(max=5, linger=timedelta(-1))}, "batch: linger is a timedelta"),
        (listed, {"batch": Batch(max=5, linger="1s")}, "batch: linger"),  # type: ignore[arg-type] # that is the fault
        (listed, {"batch": Batch(max=5, max_bytes=0)}, "batch: max_bytes is a number of bytes, at most 67108864"),
        (listed, {"batch": Batch(max=5, max_bytes=2**30)}, "batch: max_bytes"),
        (
            listed,
            {"batch": Batch(max=5, max_bytes=9), "max_body": 10},
            "max_body: such an input would fit into no call",
        ),
    ],
)
def test_each_slip_in_a_declaration_is_told(function: Any, options: dict[str, Any], told: str) -> None:
    assert told in refusal_of(function, **options)
