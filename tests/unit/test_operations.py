"""Operations as Python functions: how they are declared, fed and judged."""

import pytest
from pydantic import BaseModel, Field, JsonValue

from tidegate.errors import ConfigurationError, UnknownOperation
from tidegate.operations.limits import Limits
from tidegate.operations.python_operation import operation
from tidegate.operations.registry import Registry


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
