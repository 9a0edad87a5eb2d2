"""Parses and validates JSON input with pydantic, at a bounded cost: at most a hundred faults are reported."""

import re
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from tidegate.errors import MOST_FAULTS, InputFault, InvalidInput, MalformedBody
from tidegate.operations.json_pointer import pointer_of

# pydantic reads these as numbers.
_NOT_JSON = re.compile(rb"NaN|Infinity")
_ERRORS = {"include_url": False, "include_input": False}
# Characters of one fault's pointer, and of its reason.
_LONGEST = 500
# Bytes of pydantic's JSON list of faults that are parsed for the first hundred.
_BEGINNING = 1_000_000
# pydantic copies the whole location for each fault: an input of 220 KB, one long name with 10,000 members, took 1 GB.
_SMALL = 16_384
_LONG_NAME = re.compile(rb'"[^"]{256,}+"\s*:')
_MOST_OF_PLACES = 64_000_000


def parse(params: TypeAdapter[Any], content: bytes) -> Any:
    """Parses and validates JSON; raises MalformedBody, or InvalidInput with the faults and their JSON pointers."""
    _check_numbers(content)
    _check_names(content)
    try:
        return params.validate_json(content)
    except ValidationError as error:
        found = _first_of(error)
        if any(fault["type"] == "json_invalid" for fault in found):
            raise MalformedBody(found[0]["msg"]) from None
        raise _invalid(found, error, from_json(content)) from None


def read(content: bytes) -> Any:
    """Parses JSON of any shape; raises MalformedBody. For `check`, where the caller looks at it in between."""
    _check_numbers(content)
    try:
        return from_json(content)
    except ValueError as error:
        raise MalformedBody(f"Invalid JSON: {error}") from None


def check(params: TypeAdapter[Any], document: Any) -> Any:
    """Validates parsed JSON; raises InvalidInput."""
    try:
        return params.validate_python(document)
    except ValidationError as error:
        raise _invalid(_first_of(error), error, document) from None


def says_json(content_type: str) -> bool:
    """Whether a content type is one of JSON."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def is_json(content: bytes) -> bool:
    """Whether the bytes are strictly valid JSON."""
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return True


def _check_numbers(content: bytes) -> None:
    if _NOT_JSON.search(content) and not is_json(content):
        raise MalformedBody("NaN and Infinity are not JSON")


def _invalid(found: list[Any], error: ValidationError, document: Any) -> InvalidInput:
    faults = [InputFault(_pointer(fault["loc"], document), _reason(fault["msg"])) for fault in found]
    return InvalidInput(faults, error.error_count())


def _first_of(error: ValidationError) -> list[Any]:
    """The first hundred faults. As Python objects all of them may be a gigabyte; as text they are a twelfth of it."""
    if error.error_count() <= MOST_FAULTS:
        return error.errors(**_ERRORS)
    text = error.json(**_ERRORS, include_context=False)
    beginning = from_json(text[:_BEGINNING], allow_partial=True)
    whole = [fault for fault in beginning[:MOST_FAULTS] if "msg" in fault]
    return whole or [{"type": "unknown", "loc": (), "msg": "the faults lie too deep to be told"}]


def _check_names(content: bytes) -> None:
    """Raises InvalidInput where the locations of faults, if there are any, could take more than the memory."""
    if len(content) <= _SMALL or not (b'\\"' in content or _LONG_NAME.search(content)):
        return
    try:
        document = from_json(content)
    except ValueError:
        return  # which is for pydantic to tell
    if (content.count(b",") + 1) * _longest_place(document) > _MOST_OF_PLACES:
        raise InvalidInput([InputFault("", "it has too many members below names as long as these")])


def _longest_place(document: Any) -> int:
    """The greatest total length of the member names above one value."""
    longest, todo = 0, [(document, 0)]
    while todo:
        value, above = todo.pop()
        longest = max(longest, above)
        if isinstance(value, dict):
            todo += [(below, above + len(name)) for name, below in value.items()]
        elif isinstance(value, list):
            todo += [(below, above) for below in value if isinstance(below, dict | list)]
    return longest


def _reason(message: str) -> str:
    return cut(message.removeprefix("Value error, "))


def cut(text: str) -> str:
    """A fault's pointer or reason, no longer than anybody reads."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _pointer(location: tuple[int | str, ...], document: Any) -> str:
    """The JSON pointer of pydantic's location, without its parts that are no place, such as the branch of a union.

    The last part of a place may be a member that is missing.
    """
    places: list[int | str] = []
    for number, part in enumerate(location):
        match document:
            case dict() if part in document or number == len(location) - 1:
                document = document.get(part)
            case list() if isinstance(part, int) and part < len(document):
                document = document[part]
            case _:
                continue
        places.append(part)
    return cut(pointer_of(places))
