"""The first request that `make run` suggests: made of an operation's schema, and taken by the operation."""

import json
from datetime import date
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from config.example_input import first_request
from tidegate.operations import Body, operation


class Inner(BaseModel):
    on: date
    kind: Literal["a", "b"]


class Everything(BaseModel):
    name: str = Field(min_length=7)
    number: int = Field(ge=3)
    above: float = Field(gt=0.5)
    many: list[Inner] = Field(min_length=1)
    either: int | None
    shown: str = Field(examples=["as shown"])
    left_out: bool = False


class Riddle(BaseModel):
    code: str = Field(pattern=r"^[A-Z]{3}-\d{4}$")


@operation()
def everything(params: Everything) -> int:
    """Takes much."""
    return params.number


@operation()
def riddle(params: Riddle) -> int:
    """Takes what nobody can guess."""
    return len(params.code)


@operation(content_types=("text/csv",))
def table(body: Body) -> int:
    """Takes a table."""
    return len(body.content)


@operation()
def number(params: int) -> int:
    """Takes a number."""
    return params


def test_an_input_is_made_of_the_schema() -> None:
    first = first_request([everything, table])
    assert first is not None
    assert (first.operation, first.content_type) == ("everything", "application/json")
    made = json.loads(first.content)
    assert made.keys() == Everything.model_json_schema()["properties"].keys() - {"left_out"}
    assert made["shown"] == "as shown"
    assert Everything.model_validate(made)


@pytest.mark.parametrize(
    ("declared", "content_type", "content"),
    [
        ([table], "text/csv", "name,price\nA,1.50\n"),
        ([number], "application/json", "1"),
        ([riddle, number], "application/json", "1"),
    ],
    ids=["a raw body", "no object", "the next, where none can be made"],
)
def test_other_inputs(declared: list[object], content_type: str, content: str) -> None:
    first = first_request(declared)  # type: ignore[arg-type] # the decorator makes operations of functions
    assert first is not None
    assert (first.content_type, first.content) == (content_type, content)


def test_of_nothing_there_is_none() -> None:
    assert first_request([]) is None
    assert first_request([riddle]) is None
