"""Reads the JSON Schema of an operation's input from its file."""

from pathlib import Path

import orjson

from tidegate.operations.json_schema import JsonSchema


def read_json_schema(path: Path) -> JsonSchema:
    """Reads a schema; raises ValueError that says what is wrong with the file or with what stands in it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"it can't be read: {error.strerror}") from None
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    return JsonSchema.of(document)
