"""A priority queue of names: the lowest number comes first, and any name may be taken out again. Pure.

A heap (heapq) whose entries stay where they are when their name is taken out or put elsewhere: they are passed over
when they come to the front. So each step costs the logarithm of its length.
"""

import heapq
from collections.abc import Iterator

# So many entries that count no more are kept at least, beside as many as there are that do.
_KEPT = 16


class PriorityQueue:
    """Names by their numbers; of equal numbers the names themselves are in order."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._numbers: dict[str, int] = {}

    def __iter__(self) -> Iterator[str]:
        return iter([*self._numbers])

    def put(self, name: str, number: int) -> None:
        """Puts a name in, or moves it to another number."""
        if self._numbers.get(name) == number:
            return
        self._numbers[name] = number
        heapq.heappush(self._heap, (number, name))
        if len(self._heap) > 2 * len(self._numbers) + _KEPT:
            self._heap = [(number, name) for name, number in self._numbers.items()]
            heapq.heapify(self._heap)

    def discard(self, name: str) -> None:
        """Takes a name out, if it is in."""
        self._numbers.pop(name, None)

    def first(self) -> tuple[int, str] | None:
        """The lowest number with its name; None: it is empty."""
        while self._heap:
            number, name = self._heap[0]
            if self._numbers.get(name) == number:
                return number, name
            heapq.heappop(self._heap)
        return None
