"""What the tables of the operations file have in common: the base model, whole numbers, rates, and words."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Strict

from tidegate.rate import read_rate

# Strict: a text that looks like a number, or a 1 for true, is a mistake.
Whole = Annotated[int, Strict()]


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


def plain_words(fault: Mapping[str, Any]) -> str:
    """One fault of pydantic in words: `write a whole number`, or what a check of ours has said."""
    kind = str(fault["type"])
    if kind.endswith(("_type", "_parsing", "_from_float")) and (words := _TYPE_WORDS.get(kind.partition("_")[0])):
        return words
    return str(fault["msg"]).removeprefix("Value error, ")


class Table(BaseModel):
    """A table of the file. `stand_ins` are good values of its required keys, for where the given ones are bad."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    stand_ins: ClassVar[Mapping[str, object]] = {}
