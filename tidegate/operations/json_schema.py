"""Checks inputs against a JSON Schema (draft 2020-12), by the library jsonschema-rs, at a bounded cost.

Patterns are matched in linear time, so that none can run away: what only a backtracking engine could match
(look-around, references back) is refused when the schema is read. References go to places within the schema itself.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from tidegate.errors import InputFault, InvalidInput, MalformedBody
from tidegate.operations.json_pointer import pointer_of
from tidegate.operations.typed_input import cut

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_SMALL = 16_384
# What messages call a value that is wrong: it may be long, and nobody else's business.
_VALUE = "the value"
# Keywords by which a schema gives places names of their own or goes to others: OpenAPI's documents, in which it is
# shown, read them in another way.
_NOT_HERE = frozenset({"$id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef", "$vocabulary"})
_LOCAL = re.compile(r"#(?:/.*)?", re.DOTALL)
_PLAIN_VALUES = frozenset({"const", "enum", "default", "examples"})


@dataclass(frozen=True)
class JsonSchema:
    """A schema that was read. `document`: its JSON."""

    document: Mapping[str, Any]
    _validator: Any = field(repr=False, compare=False)

    @classmethod
    def of(cls, document: object) -> "JsonSchema":
        """Reads a schema; raises ValueError that says what is wrong with it."""
        # Not before one is declared: processes without one have not its two megabytes.
        from jsonschema_rs import Draft202012Validator, ReferencingError, RegexOptions, ValidationError  # noqa: PLC0415

        if not isinstance(document, dict):
            raise ValueError("it has to be an object, {…}")
        for fault in _own_faults(document, ""):
            raise ValueError(fault)
        how: dict[str, Any] = {"pattern_options": RegexOptions(), "offline": True}
        try:
            Draft202012Validator(document, **how)  # its own faults are told with their values
            return cls(document, Draft202012Validator(document, mask=_VALUE, **how))
        except ValidationError as error:
            raise ValueError(f"{cut(pointer_of(error.instance_path))}: {cut(error.message)}") from None
        except (ReferencingError, ValueError) as error:
            raise ValueError(cut(" ".join(str(error).split()))) from None

    def check(self, content: bytes) -> None:
        """Validates an input; raises MalformedBody, or InvalidInput with a hundred faults and their pointers."""
        try:
            value = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise MalformedBody(f"Invalid JSON: {error}") from None
        if not self._validator.is_valid(value):
            found = self._faults(value, len(content))
            raise InvalidInput([InputFault(cut(pointer_of(each.instance_path)), cut(each.message)) for each in found])

    def _faults(self, value: object, size: int) -> list[Any]:
        """Of a small input all. The library makes them all at once, so of a large one it is asked for the first."""
        if size <= _SMALL:
            return list(self._validator.iter_errors(value))
        from jsonschema_rs import ValidationError  # noqa: PLC0415

        try:
            self._validator.validate(value)
        except ValidationError as error:
            return [error]
        return []


def _own_faults(node: object, place: str) -> Iterator[str]:
    """What JSON Schema would allow and can't be kept here."""
    match node:
        case dict():
            for key, value in node.items():
                here = f"{place}/{key}"
                if key in _NOT_HERE:
                    yield f"{here}: {key} can't be used; write the place as #/$defs/Name"
                elif key == "$ref" and not (isinstance(value, str) and _LOCAL.fullmatch(value)):
                    yield f"{here}: only places within the schema itself: #/$defs/Name"
                elif key == "$schema" and str(value).rstrip("#") != DRAFT:
                    yield f"{here}: only {DRAFT}"
                elif key not in _PLAIN_VALUES:
                    yield from _own_faults(value, here)
        case list():
            for number, value in enumerate(node):
                yield from _own_faults(value, f"{place}/{number}")
