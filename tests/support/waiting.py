"""Waiting for what other processes do, with an end and a sentence about it."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

_INTERVAL_SECONDS = 0.02


def wait_until(condition: Callable[[], Value | None], *, description: str, timeout_seconds: float = 10) -> Value:
    """Asks `condition` again and again until it is truthy and returns its value.

    Raises AssertionError naming `description` when the time is over; `condition` was asked at least once.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout_seconds:g} s in vain until {description}; last value: {value!r}")
        time.sleep(_INTERVAL_SECONDS)
