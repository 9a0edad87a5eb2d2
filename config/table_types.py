"""What the tables of the operations file have in common: the base model, numbers, sizes, rates, and words."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Strict

from tidegate.rate import read_rate
from tidegate.timeformat import format_duration

# Strict: a text that looks like a number, or a 1 for true, is a mistake.
Whole = Annotated[int, Strict()]
_SIZE = re.compile(r"(\d{1,9})\s*(KB|MB)", re.ASCII)
_BYTES = {"KB": 1024, "MB": 1024 * 1024}


def _read_size(value: object) -> object:
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found:
        return int(found[1]) * _BYTES[found[2]]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError('write a number of bytes, or a text such as "4MB" or "512KB"')
    return value


Size = Annotated[int, BeforeValidator(_read_size)]
"""Bytes: a number, or a text with a unit; 1 KB are 1,024."""


def check_rates(value: object) -> object:
    """Reads one rate or a list of them; pydantic alone would ask for a tuple."""
    return [read_rate(rate) for rate in (value if isinstance(value, list) else [value])]


# What pydantic says of a value of the wrong type, in the words of the tables of keys and settings.
_TYPE_WORDS = {
    "bool": "write true or false",
    "dict": "write a table",
    "float": "write a number",
    "frozen": "write a list",
    "int": "write a whole number",
    "list": "write a list",
    "model": "write a table",
    "string": "write a text, in quotes",
    "tuple": "write a list",
}
# As pydantic shows a bound of a duration.
_SECONDS = re.compile(r"datetime\.timedelta\(seconds=(\d+)\)", re.ASCII)


def plain_words(fault: Mapping[str, Any]) -> str:
    """One fault of pydantic in words: `write a whole number`, or what a check of ours has said."""
    kind = str(fault["type"])
    if kind.endswith(("_type", "_parsing", "_from_float")) and (words := _TYPE_WORDS.get(kind.partition("_")[0])):
        return words
    if kind == "less_than_equal" and (seconds := _SECONDS.fullmatch(str(fault["ctx"]["le"]))):
        return f"it is longer than {format_duration(timedelta(seconds=int(seconds[1])))}, the most"
    return str(fault["msg"]).removeprefix("Value error, ")


class Table(BaseModel):
    """A table of the file. `stand_ins` are good values of its required keys, for where the given ones are bad."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    stand_ins: ClassVar[Mapping[str, object]] = {}
