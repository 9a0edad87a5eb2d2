"""Whole numbers as JSON Schema understands them: 5.0 is one, "5" and true are not."""

from pydantic import BeforeValidator


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Stands behind the bounds of an int in a strict model."""
