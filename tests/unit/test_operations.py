"""Operations as Python functions: how they are declared, fed and judged."""

from typing import Any

import pytest
from pydantic import BaseModel, Field, JsonValue

from tidegate.errors import (
    ConfigurationError,
    UnknownOperation,
)
from tidegate.operations import Attempt, Limits, Registry
from tidegate.python_operation import operation


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


def test_an_operation_is_named_and_described_by_its_function() -> None:
    assert (geocode.name, geocode.downstream) == ("geocode", "geocode")
    assert geocode.description == "Finds a place.\n\nSlowly."
    schema = geocode.input_schema()
    assert schema is not None
    assert schema["required"] == ["street", "numbers"]


class Tree(BaseModel):
    kids: list["Tree"] = []


def _tree(params: Tree) -> int:
    return 0


def test_what_cannot_be_an_operation_is_refused_with_how_to_write_it() -> None:
    def no_argument() -> None: ...
    def three(a: int, b: int, c: int) -> None: ...
    def untyped(a) -> None: ...  # type: ignore[no-untyped-def]
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
