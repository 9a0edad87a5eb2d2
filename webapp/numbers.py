"""Whole numbers as JSON Schema understands them: 5.0 is one, "5" and true are not."""

from typing import Annotated

from pydantic import BeforeValidator, Strict


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, Strict(), BeforeValidator(_whole)]
