"""Makes the outcome of what an operation's function returned, or of the bytes that a downstream answered. Pure."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from tidegate.operations.operation import CONTENT_TYPE_LENGTH, JSON, Body
from tidegate.operations.outcome import ErrorCode, Failed, Succeeded
from tidegate.operations.typed_input import is_json, says_json


def succeeded(content: bytes, content_type: str) -> Succeeded:
    """Makes the outcome of a result, marked as JSON when its content type says so and it parses."""
    return Succeeded(content=content, content_type=content_type, is_json=says_json(content_type) and is_json(content))


def outcome_of_returned(returned: Any, declared: TypeAdapter[Any], name: str) -> Succeeded | Failed:
    """The outcome of what the function of this operation returned; one that its declared type can't hold is a failure.

    A `Body` is passed on as it is.
    """
    if isinstance(returned, Body):
        if not _can_be_sent(returned):
            reason = f"{name} returned a Body that can't be sent: it takes bytes and one line as their type"
            return Failed(code=ErrorCode.OPERATION_ERROR, message=reason)
        return succeeded(returned.content, returned.content_type)
    try:
        value = declared.validate_python(list(returned) if isinstance(returned, Iterator) else returned)
        content = declared.dump_json(value)
        lost = _number_lost(declared.dump_python(value), content)
    except (ValidationError, PydanticSerializationError) as error:
        reason = f"{name} returned {type(returned).__name__}, which its declared result can't hold: {error}"
        return Failed(code=ErrorCode.OPERATION_ERROR, message=reason[:1000])
    if lost is not None:
        reason = f"{name} returned {lost}, a number that JSON does not know; return None where there is none"
        return Failed(code=ErrorCode.OPERATION_ERROR, message=reason)
    return succeeded(content, JSON)


def _number_lost(value: Any, content: bytes) -> str | None:
    """NaN or an infinity that pydantic wrote as null, or as what is no JSON; None if there is none.

    `value` is what was written, in Python's own types. A serializer that writes them otherwise is right to do so.
    """
    if b"null" not in content and is_json(content):
        return None
    numbers: list[float] = []
    todo, nones, nulls = [value], 0, content.count(b"null")
    while todo:
        match todo.pop():
            case None:
                nones += 1
            case float() as number if not math.isfinite(number):
                numbers.append(number)
            case Mapping() as mapping:
                todo += mapping.values()
            case list() | tuple() | set() | frozenset() as several:
                todo += several
            case str() as text:
                nones += text.count("null")
    return str(numbers[0]) if numbers and (nulls > nones or not is_json(content)) else None


def _can_be_sent(body: Body) -> bool:
    # What the table's columns and an HTTP header can hold, whatever the annotations say.
    content_type: object = body.content_type
    return (
        isinstance(body.content, bytes)
        and isinstance(content_type, str)
        and len(content_type) <= CONTENT_TYPE_LENGTH
        and content_type.isascii()
        and content_type.isprintable()
    )
