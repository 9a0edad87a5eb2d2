"""Operations as Python functions: how they are declared, fed and judged."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field, JsonValue

from tidegate.errors import (
    AttemptStopped,
    ConfigurationError,
    InvalidInput,
    MalformedBody,
    PermanentError,
    UnknownOperation,
    UnsupportedBody,
)
from tidegate.operations import Attempt, Body, Limits, Progress, Registry
from tidegate.outcomes import ErrorCode, Failed, Outcome, Succeeded
from tidegate.python_operation import PythonOperation, operation


class Address(BaseModel):
    street: str
    numbers: list[int] = Field(max_length=3)


@operation()
def geocode(params: Address) -> list[int]:
    """Finds a place.

    Slowly.
    """
    return params.numbers


@operation()
def echo(params: JsonValue) -> JsonValue:
    """Returns what it is given."""
    return params


def make_attempt(reported: list[Progress] | None = None, seconds_left: float = 10) -> Attempt:
    return Attempt(
        job_id="a-job",
        number=2,
        report=(reported if reported is not None else []).append,
        seconds_left=lambda: seconds_left,
        take_slot=lambda: None,
    )


def run(made: PythonOperation, content: bytes = b"null") -> Outcome:
    return made.run(Body(content=content), make_attempt())


def returning(value: Any, hint: Any = Any) -> PythonOperation:
    def made(params: JsonValue) -> Any:
        return value

    made.__annotations__["return"] = hint
    return operation()(made)


def test_an_operation_is_named_and_described_by_its_function() -> None:
    assert (geocode.name, geocode.downstream) == ("geocode", "geocode")
    assert geocode.description == "Finds a place.\n\nSlowly."
    schema = geocode.input_schema()
    assert schema is not None
    assert schema["required"] == ["street", "numbers"]


def test_params_arrive_as_their_declared_type() -> None:
    assert run(geocode, b'{"street": "x", "numbers": [1, 2]}') == Succeeded(
        content=b"[1,2]", content_type="application/json", is_json=True
    )


def test_params_may_be_a_dataclass() -> None:
    @dataclass
    class Pair:
        left: int
        right: int

    def add(params: Pair) -> int:
        return params.left + params.right

    add.__annotations__["params"] = Pair
    assert run(operation()(add), b'{"left": 1, "right": 2}') == Succeeded(
        content=b"3", content_type="application/json", is_json=True
    )


def test_every_fault_of_an_input_is_told_with_its_pointer() -> None:
    with pytest.raises(InvalidInput) as refusal:
        geocode.check(Body(content=b'{"numbers": [1, "two", null]}'))

    assert [fault.pointer for fault in refusal.value.faults] == ["/street", "/numbers/1", "/numbers/2"]


def test_a_pointer_escapes_what_json_pointers_escape() -> None:
    @operation()
    def table(params: dict[str, int]) -> None: ...

    with pytest.raises(InvalidInput) as refusal:
        table.check(Body(content=b'{"a/b~c": "x"}'))

    assert [fault.pointer for fault in refusal.value.faults] == ["/a~1b~0c"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"'x'",
        b"[1,]",
        b'"\\ud800"',
        b"1" * 5000,
        b"NaN",
        b"[-Infinity]",
        b"[" * 1000 + b"]" * 1000,
        b"[" * 1_000_000,
    ],
    ids=lambda content: content[:12],
)
def test_what_is_not_json_is_malformed_and_not_invalid(content: bytes) -> None:
    with pytest.raises(MalformedBody):
        echo.check(Body(content=content))


def test_a_deeply_nested_input_is_refused_by_a_recursive_model() -> None:
    with pytest.raises(MalformedBody, match="recursion limit"):
        operation(name="tree")(_tree).check(Body(content=b'{"kids":[' * 500 + b"]}" * 500))


class Tree(BaseModel):
    kids: list["Tree"] = []


def _tree(params: Tree) -> int:
    return 0


def test_the_words_nan_and_infinity_may_stand_in_a_text() -> None:
    assert run(echo, b'"NaN and Infinity"').content == b'"NaN and Infinity"'  # type: ignore[union-attr]


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/jsonx", "application/x-www-form-urlencoded"])
def test_params_are_json_and_nothing_else(content_type: str) -> None:
    with pytest.raises(UnsupportedBody, match="takes application/json"):
        echo.check(Body(content=b"1", content_type=content_type))


def test_parameters_and_case_of_a_content_type_do_not_matter() -> None:
    echo.check(Body(content=b"1", content_type="Application/JSON; charset=utf-8"))


def test_a_raw_body_goes_in_and_out_as_it_is() -> None:
    @operation()
    def raw(body: Body) -> Body:
        return body

    assert raw.input_schema() is None
    raw.check(Body(content=b"\x00\xff", content_type="what/ever"))
    assert raw.run(Body(content=b"\x00\xff", content_type="image/png"), make_attempt()) == Succeeded(
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


_LOOP: list[Any] = []
_LOOP.append(_LOOP)
_DEEP: list[Any] = []
for _ in range(3000):
    _DEEP = [_DEEP]


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (object(), Any),
        (object(), JsonValue),
        (_LOOP, Any),
        (_LOOP, JsonValue),
        (_DEEP, Any),
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


def test_numbers_that_json_does_not_know_become_null() -> None:
    assert json.loads(run(returning([float("nan"), float("inf")])).content) == [None, None]  # type: ignore[union-attr]


def test_a_permanent_error_is_a_final_failure_and_any_other_goes_to_the_runner() -> None:
    def failing(error: Exception) -> PythonOperation:
        def made(params: JsonValue) -> None:
            raise error

        return operation()(made)

    assert run(failing(PermanentError("no"))) == Failed(code=ErrorCode.OPERATION_ERROR, message="no")
    assert run(failing(PermanentError())) == Failed(code=ErrorCode.OPERATION_ERROR, message="PermanentError")
    with pytest.raises(RuntimeError, match="maybe"):
        run(failing(RuntimeError("maybe")))


def test_the_second_argument_is_the_attempt() -> None:
    @operation()
    def tells(params: JsonValue, attempt: Attempt) -> list[Any]:
        return [attempt.job_id, attempt.number, attempt.time_left.total_seconds()]

    assert json.loads(run(tells).content) == ["a-job", 2, 10.0]  # type: ignore[union-attr]


def test_tracking_tells_after_each_item_how_many_are_done() -> None:
    reported: list[Progress] = []

    assert list(make_attempt(reported).track("abc", "spelling")) == ["a", "b", "c"]

    assert [(told.done, told.total, told.note, told.percent) for told in reported] == [
        (0, 3, "spelling", 0),
        (1, 3, "spelling", 33),
        (2, 3, "spelling", 66),
        (3, 3, "spelling", 99),
    ]


def test_tracking_something_without_a_length_tells_no_percent_unless_told_the_total() -> None:
    reported: list[Progress] = []
    attempt = make_attempt(reported)

    list(attempt.track(iter("ab")))
    list(attempt.track(iter("ab"), total=2))

    assert [(told.done, told.total, told.percent) for told in reported] == [
        (0, None, 0),
        (1, None, 0),
        (0, 2, 0),
        (1, 2, 50),
        (2, 2, 99),
    ]


@pytest.mark.parametrize(
    ("done", "total", "percent"),
    [(0, 0, 0), (5, 0, 0), (-1, 10, 0), (11, 10, 99), (10, 10, 99), (1, -1, 0), (10**30, 10**30 + 1, 99)],
)
def test_a_percent_is_0_to_99_whatever_is_told(done: int, total: int, percent: int) -> None:
    assert Progress(done=done, total=total).percent == percent


@pytest.mark.parametrize(
    ("note", "kept"), [("x" * 500, "x" * 200), ("a\x00b", "ab"), ("\ud800", "?"), ("é", "é"), (None, None)]
)
def test_a_note_is_made_to_fit_its_column(note: Any, kept: str | None) -> None:
    reported: list[Progress] = []

    make_attempt(reported).progress(1.0, 2.0, note)  # type: ignore[arg-type] # what people do pass

    assert reported == [Progress(done=1, total=2, note=kept)]
    assert isinstance(reported[0].done, int)


def test_an_attempt_that_is_stopped_does_not_take_the_stop_for_a_failure() -> None:
    @operation()
    def careless(params: JsonValue) -> int:
        try:
            raise AttemptStopped("stopped")
        except Exception:  # noqa: BLE001 - what careless code does
            return 1

    with pytest.raises(AttemptStopped):
        run(careless)


def test_what_cannot_be_an_operation_is_refused_with_how_to_write_it() -> None:
    def no_argument() -> None: ...
    def three(a: int, b: int, c: int) -> None: ...
    def untyped(a) -> None: ...  # type: ignore[no-untyped-def] # noqa: ANN001
    def keyword_only(a: int, *, attempt: Attempt) -> None: ...
    def starred(*a: int) -> None: ...
    def mapped(**a: int) -> None: ...
    def unresolved(a: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821

    for function in (no_argument, three, untyped, keyword_only, starred, mapped, unresolved):
        with pytest.raises(ConfigurationError, match=f"operation {function.__name__}: write it as def"):
            operation()(function)


@pytest.mark.parametrize("options", [{"timeout": "soon"}, {"attempt_timeout": "0s"}, {"name": "Not/A Name"}])
def test_a_bad_option_is_a_configuration_error_that_names_the_operation(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="operation"):
        operation(**options)(_tree)


def test_two_operations_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two operations are named 'echo'; rename one"):
        Registry.of([echo, operation(name="echo")(_tree)])


def test_an_undeclared_downstream_has_no_limits() -> None:
    registry = Registry.of([echo, geocode], [Limits(name="geocode", rates=("5/s",))])

    assert registry.downstreams["geocode"].rates == ("5/s",)
    assert registry.downstreams["echo"] == Limits(name="echo")


def test_an_unknown_operation_says_where_the_known_ones_are() -> None:
    with pytest.raises(UnknownOperation, match="GET /v1/operations"):
        Registry.of([echo]).operation("nope")
