"""What an operation takes: JSON of its declared shape, every fault told."""

from dataclasses import dataclass

import pytest
from pydantic import BaseModel, Field, JsonValue

from tidegate.errors import InvalidInput, MalformedBody, UnsupportedBody
from tidegate.operations.operation import Body
from tidegate.operations.outcome import Outcome, Succeeded
from tidegate.operations.python_operation import PythonOperation, operation
from tidegate.testing import FakeAttempt


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


def run(made: PythonOperation, content: bytes = b"null") -> Outcome:
    return made.run(Body(content=content), FakeAttempt())


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
    outcome = run(echo, b'"NaN and Infinity"')

    assert isinstance(outcome, Succeeded)
    assert outcome.content == b'"NaN and Infinity"'


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/jsonx", "application/x-www-form-urlencoded"])
def test_params_are_json_and_nothing_else(content_type: str) -> None:
    with pytest.raises(UnsupportedBody, match="takes application/json"):
        echo.check(Body(content=b"1", content_type=content_type))


def test_parameters_and_case_of_a_content_type_do_not_matter() -> None:
    echo.check(Body(content=b"1", content_type="Application/JSON; charset=utf-8"))
