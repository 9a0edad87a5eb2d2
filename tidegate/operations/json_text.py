"""JSON as it is written: the text of a member, found by its JSON pointer (RFC 6901), byte for byte.

A parser that makes numbers of numbers would send 0.1 where the caller wrote 0.10, and 1e2 for 100.0. A name that an
object has twice is refused along the way: programs differ in which of the two counts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined] # public by its name, and missing in the stubs

import orjson

from tidegate.errors import InputFault, InvalidInput, MalformedBody
from tidegate.operations.json_pointer import pointer_of
from tidegate.operations.typed_input import is_json

_DECODER = json.JSONDecoder()


def has_something_at(names: Sequence[str], content: bytes) -> bool:
    """Whether this JSON has anything at the pointer but null, false, 0 and what is empty."""
    value = orjson.loads(content)
    for name in names:
        match value:
            case dict():
                value = value.get(name)
            case list() if name.isdecimal() and int(name) < len(value):
                value = value[int(name)]
            case _:
                return False
    return bool(value)


@dataclass(frozen=True)
class JsonText:
    """A JSON value as it is written."""

    text: str

    @classmethod
    def of(cls, content: bytes) -> "JsonText":
        """Of an input; raises MalformedBody where that is not JSON."""
        if not is_json(content):
            raise MalformedBody("Invalid JSON")
        return cls(content.decode())

    def at(self, names: Sequence[str]) -> "JsonText":
        """The value at this pointer; raises InvalidInput with the place that is missing."""
        value = self
        for number, name in enumerate(names):
            here = pointer_of(names[:number])
            members = value._members(here)
            if name not in members:
                raise InvalidInput([InputFault(f"{here}/{name}", "it is missing")])
            value = members[name]
        return value

    def members(self) -> Mapping[str, "JsonText"]:
        """The members of an object; raises InvalidInput where it is none."""
        return self._members("")

    def items(self) -> Sequence["JsonText"]:
        """The items of a list; raises InvalidInput where it is none."""
        text, items = self.text, []
        position = _after_space(text, 0)
        if text[position] != "[":
            raise InvalidInput([InputFault("", "it has to be a list, […]")])
        position = _after_space(text, position + 1)
        while text[position] != "]":
            end = _end_of_value(text, position)
            items.append(JsonText(text[position:end]))
            position = _after_space(text, end)
            if text[position] == ",":
                position = _after_space(text, position + 1)
        return items

    @property
    def scalar(self) -> str | None:
        """A string's characters, or a number's, true's or false's text; None: it is null, a list or an object."""
        if self.text.startswith('"'):
            return str(json.loads(self.text))
        return None if self.text[0] in "{[n" else self.text

    @property
    def string(self) -> str | None:
        """A string's characters; None: it is none."""
        return self.scalar if self.text.startswith('"') else None

    def _members(self, here: str) -> dict[str, "JsonText"]:
        """The text is sure to be JSON: what is asked here is only where each part of it ends."""
        text, members = self.text, {}
        position = _after_space(text, 0)
        if text[position] != "{":
            raise InvalidInput([InputFault(here, "it has to be an object, {…}")])
        position = _after_space(text, position + 1)
        while text[position] != "}":
            name, position = scanstring(text, position + 1)
            start = _after_space(text, _after_space(text, position) + 1)
            position = _end_of_value(text, start)
            if name in members:
                raise InvalidInput([InputFault(f"{here}{pointer_of([name])}", "it stands there twice")])
            members[name] = JsonText(text[start:position])
            position = _after_space(text, position)
            if text[position] == ",":
                position = _after_space(text, position + 1)
        return members


def _after_space(text: str, position: int) -> int:
    while text[position] in " \t\n\r":
        position += 1
    return position


def _end_of_value(text: str, start: int) -> int:
    try:
        return _DECODER.raw_decode(text, start)[1]
    except RecursionError:
        raise MalformedBody("Invalid JSON: it is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise MalformedBody(f"Invalid JSON: {error}") from None
