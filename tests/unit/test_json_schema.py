"""Inputs against a declared JSON Schema: what is refused, how it is told, and what no schema may do."""

import time
from typing import Any

import pytest

from tidegate.errors import MOST_FAULTS, InvalidInput, MalformedBody
from tidegate.operations.json_schema import DRAFT, JsonSchema

ORDER = {
    "$schema": DRAFT,
    "type": "object",
    "required": ["sku", "lines"],
    "additionalProperties": False,
    "properties": {
        "sku": {"type": "string", "pattern": "^[A-Z]+-[0-9]+$"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "minItems": 1},
        "a/b~": {"enum": ["x"]},
    },
    "$defs": {"line": {"type": "object", "required": ["quantity"], "properties": {"quantity": {"type": "integer"}}}},
}


def faults(schema: Any, content: bytes) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        JsonSchema.of(schema).check(content)
    return [(fault.pointer, fault.detail) for fault in caught.value.faults]


def test_what_fits_is_taken() -> None:
    JsonSchema.of(ORDER).check(b'{"sku": "A-1", "lines": [{"quantity": 2}]}')


def test_each_fault_is_told_with_its_place() -> None:
    found = faults(
        ORDER, b'{"sku": "a secret", "lines": [{"quantity": 1}, {"quantity": "2"}, {}], "a/b~": "y", "z": 1}'
    )
    assert {pointer for pointer, _ in found} == {"/sku", "/lines/1/quantity", "/lines/2", "/a~1b~0", ""}
    assert not any("secret" in detail for _, detail in found), "what a caller sent is not repeated"


@pytest.mark.parametrize("content", [b"", b"{", b"NaN", b"\xff", b'\xef\xbb\xbf{"a": 1}'])
def test_what_is_no_json_is_told_as_that(content: bytes) -> None:
    with pytest.raises(MalformedBody):
        JsonSchema.of(ORDER).check(content)


def test_a_hundred_faults_are_told_and_a_million_cost_little() -> None:
    numbers = {"type": "array", "items": {"type": "integer"}}
    assert len(faults(numbers, b"[" + b'"",' * 500 + b"1]")) == MOST_FAULTS
    began = time.process_time()
    assert len(faults(numbers, b"[" + b'"",' * 1_000_000 + b"1]")) >= 1
    assert time.process_time() - began < 2, "all million faults take half a minute"


def test_no_pattern_runs_away() -> None:
    began = time.process_time()
    assert faults({"pattern": "^(a+)+$"}, b'"' + b"a" * 100_000 + b'b"')
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ([], "an object"),
        ("text", "an object"),
        ({"type": "strin"}, "strin"),
        ({"pattern": "(?=a)b"}, "regex"),
        ({"pattern": "(a)\\1"}, "regex"),
        ({"pattern": "("}, "regex"),
        ({"pattern": "(a{1,1000}){1,1000}"}, "regex"),
        ({"patternProperties": {"(?!a)": {}}}, "regex"),
        ({"properties": {"a": {"$ref": "https://example.com/schema"}}}, "/properties/a/$ref: only places within"),
        ({"$ref": "other.json#/x"}, "only places within"),
        ({"$ref": "file:///etc/passwd"}, "only places within"),
        ({"$ref": "#anchor"}, "only places within"),
        ({"$ref": "#/$defs/none"}, "does not exist"),
        ({"properties": {"a": {"$id": "https://example.com/a"}}}, "$id can't be used"),
        ({"$defs": {"a": {"$anchor": "a"}}}, "$anchor can't be used"),
        ({"items": [{"$dynamicRef": "#a"}]}, "$dynamicRef can't be used"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, DRAFT),
    ],
)
def test_a_schema_that_could_not_be_kept_is_refused(schema: object, told: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).*") as caught:
        JsonSchema.of(schema)
    assert told in str(caught.value)


def test_a_plain_value_may_look_like_a_keyword() -> None:
    JsonSchema.of({"properties": {"x": {"const": {"$ref": "https://example.com"}}}, "examples": [{"$id": 1}]})


def test_a_schema_of_itself_is_followed_as_deep_as_the_input_goes() -> None:
    tree = JsonSchema.of({"type": "array", "items": {"$ref": "#"}})
    tree.check(b"[" * 900 + b"]" * 900)
    with pytest.raises(InvalidInput):
        tree.check(b"[" * 100 + b"1" + b"]" * 100)
