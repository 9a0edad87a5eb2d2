"""Makes what a process has one of."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

T = TypeVar("T")


def once(make: Callable[[], T]) -> Callable[[], T]:
    """Makes it at the first call and returns it at each, also to threads that meet at the first.

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
