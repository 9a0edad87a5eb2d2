"""What the tables of the operations file have in common: the base model, whole numbers and rates."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Strict

from tidegate.rate import read_rate

# Strict: a text that looks like a number, or a 1 for true, is a mistake.
Whole = Annotated[int, Strict()]


def check_rates(value: object) -> object:
    """Reads one rate or a list of them; pydantic alone would ask for a tuple."""
    return [read_rate(rate) for rate in (value if isinstance(value, list) else [value])]


class Table(BaseModel):
    """A table of the file. `stand_ins` are good values of its required keys, for where the given ones are bad."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    stand_ins: ClassVar[Mapping[str, object]] = {}
