"""A pydantic validator for whole numbers as JSON Schema has them: 5.0 is one, "5" and true are not."""

from pydantic import BeforeValidator


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""For an int of a strict model: write it behind the int's bounds."""
