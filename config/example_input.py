"""Makes an input that an operation takes from its JSON Schema: for the first request that `make run` suggests."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.errors import TidegateError
from tidegate.operations import Body
from tidegate.operations.operation import Operation

_JSON = "application/json"
_TABLE = "name,price\nA,1.50\n"  # for operations that take a text of some kind
_DEEPEST = 8
# What the sample downstream prices; an HTTP operation has no schema from which it could be made.
_SAMPLE_ORDER = '{"sku": "A-100", "quantity": 3}'
_SAMPLE = "sample"


@dataclass(frozen=True, kw_only=True)
class FirstRequest:
    """What a first submit can be: an operation, the content type and the input."""

    operation: str
    content_type: str
    content: str


def first_request(operations: Sequence[Operation]) -> FirstRequest | None:
    """The first operation for which an input can be made, in the order of their declaration; None without any."""
    for operation in operations:
        content_type, content = _input_of(operation)
        try:
            operation.check(Body(content=content.encode(), content_type=content_type))
        except TidegateError:
            continue  # its schema asks for what can't be made up, such as a pattern
        return FirstRequest(operation=operation.name, content_type=content_type, content=content)
    return None


def _input_of(operation: Operation) -> tuple[str, str]:
    schema = operation.input_schema()
    if schema is not None:
        return (operation.content_types or (_JSON,))[0], json.dumps(_value(schema, schema))
    if operation.content_types and _JSON not in operation.content_types:
        return operation.content_types[0], _TABLE
    return _JSON, _SAMPLE_ORDER if operation.downstream == _SAMPLE else "{}"


def _value(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> Any:
    """A value that fits the schema, as small as may be."""
    given = [schema[name] for name in ("const", "default") if name in schema]
    given += [schema[name][0] for name in ("examples", "enum") if schema.get(name)]
    if given or depth > _DEEPEST:
        return given[0] if given else None
    if reference := schema.get("$ref"):
        return _value(root.get("$defs", {}).get(reference.rpartition("/")[2], {}), root, depth + 1)
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            return _value(schema[choice][0], root, depth + 1)
    return _of_type(schema, root, depth)


def _of_type(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: _value(properties.get(name, {}), root, depth + 1) for name in schema.get("required", ())}
        case "array":
            return [_value(schema.get("items", {}), root, depth + 1)] * schema.get("minItems", 1)
        case "string":
            return _FORMATS.get(schema.get("format", ""), "text".ljust(schema.get("minLength", 0), "x"))
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return True
    return None


_FORMATS = {
    "date": "2026-12-24",
    "date-time": "2026-12-24T18:00:00Z",
    "uri": "https://example.com/",
    "uuid": "0199c5a0-7a5e-7cc0-8d9a-3f1c2b4d5e6f",
}
