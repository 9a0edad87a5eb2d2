"""What is there, of which its type says that it may be missing."""

from typing import TypeVar

Value = TypeVar("Value")


def present(value: Value | None) -> Value:
    """The value itself; raises AssertionError where there is none."""
    assert value is not None
    return value
