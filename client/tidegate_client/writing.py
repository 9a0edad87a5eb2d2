"""Writes inputs as JSON: what `json` knows, and models, dataclasses, decimals, dates, UUIDs and enums."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any, NoReturn
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class Written:
    """An input as JSON. `is_of_floats`: each of its numbers stays what it is for a reader who makes floats of them."""

    content: bytes
    is_of_floats: bool


def as_json(value: object, name: str = "the input") -> Written:
    """Writes a value as JSON; its name is for the error.

    A model of pydantic writes itself (`model_dump_json`). A Decimal is a number, digit by digit as it stands; dates and
    times are ISO 8601. Raises TypeError, which names the place, for what JSON has no form for.
    """
    try:
        # Many times faster; what it does not know is written piece by piece, which knows the place, too.
        return Written(content=json.dumps(value, allow_nan=False).encode(), is_of_floats=True)
    except (TypeError, ValueError, RecursionError):
        writer = _Writer(name)
        text = "".join(writer.pieces(value, (), ()))
        return Written(content=text.encode(), is_of_floats=writer.is_of_floats)


class _Writer:
    """`above` is where a value stands: the keys that lead to it; `inside` what it stands in, to find circles."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.is_of_floats = True

    def pieces(self, value: Any, above: tuple[object, ...], inside: tuple[int, ...]) -> Iterator[str]:
        """Yields the JSON of a value."""
        if isinstance(value, Enum):
            value = value.value
        if value is None or isinstance(value, str | int | float):
            yield self._scalar(value, above)
        elif isinstance(value, Decimal):
            yield self._number(value, above)
        elif isinstance(value, date | time):
            yield json.dumps(value.isoformat())
        elif isinstance(value, UUID):
            yield json.dumps(str(value))
        elif hasattr(value, "model_dump_json") and not isinstance(value, type):
            yield self._of_model(value, above)
        elif id(value) in inside:
            self._fail(above, "it stands in itself")
        elif is_dataclass(value) and not isinstance(value, type):
            members = ((each.name, getattr(value, each.name)) for each in fields(value))
            yield from self._object(members, above, (*inside, id(value)))
        elif isinstance(value, Mapping):
            yield from self._object(value.items(), above, (*inside, id(value)))
        elif isinstance(value, list | tuple):
            yield from self._array(value, above, (*inside, id(value)))
        else:
            self._fail(above, f"{type(value).__name__} has no form in JSON")

    def _object(
        self, members: Iterable[tuple[object, object]], above: tuple[object, ...], inside: tuple[int, ...]
    ) -> Iterator[str]:
        before = "{"
        for key, value in members:
            yield f"{before}{self._key(key, above)}: "
            yield from self.pieces(value, (*above, key), inside)
            before = ", "
        yield "}" if before == ", " else "{}"

    def _array(self, values: Iterable[object], above: tuple[object, ...], inside: tuple[int, ...]) -> Iterator[str]:
        before = "["
        for index, value in enumerate(values):
            yield before
            yield from self.pieces(value, (*above, index), inside)
            before = ", "
        yield "]" if before == ", " else "[]"

    def _key(self, key: object, above: tuple[object, ...]) -> str:
        """A member's name, which is a string in JSON; other scalars are written as `json` does."""
        if isinstance(key, Mapping | list | tuple) or is_dataclass(key) or hasattr(key, "model_dump_json"):
            self._fail(above, f"a key is a {type(key).__name__}")
        text = "".join(self.pieces(key, (*above, key), ()))
        return text if text.startswith('"') else json.dumps(text)

    def _scalar(self, value: object, above: tuple[object, ...]) -> str:
        try:
            return json.dumps(value, allow_nan=False)
        except ValueError as error:  # NaN, an infinity, an integer that is too long
            self._fail(above, str(error))

    def _number(self, value: Decimal, above: tuple[object, ...]) -> str:
        if not value.is_finite():
            self._fail(above, f"{value} is no number in JSON")
        self.is_of_floats = self.is_of_floats and Decimal(repr(float(value))) == value
        return str(value)

    def _of_model(self, value: Any, above: tuple[object, ...]) -> str:
        try:
            text: str = value.model_dump_json()
        except (TypeError, ValueError) as error:
            self._fail(above, str(error))
        return text

    def _fail(self, above: tuple[object, ...], why: str) -> NoReturn:
        pointer = "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in above)
        raise TypeError(f"{self._name}{f' at {pointer}' if pointer else ''} can't be sent: {why}")
