"""A thread-safe lazy singleton: the decorator `once`."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

T = TypeVar("T")


def once(make: Callable[[], T]) -> Callable[[], T]:
    """Decorates a function without arguments: it runs at the first call, and each call returns that one result.

    Threads that meet at the first call get the same one.
    `functools.cache` would let each of those make one of its own. What raises is tried again by the next call.
    """
    made: list[T] = []
    making = threading.Lock()

    @wraps(make)
    def the_one() -> T:
        if not made:
            with making:
                if not made:
                    made.append(make())
        return made[0]

    return the_one
