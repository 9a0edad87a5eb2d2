"""Readers of one process that meet share a statement: many polls at once cost the database what one does.

Each round trip also costs a thread its turn at Python's interpreter lock, twice. A burst of polls spends more on that
than on its answers (figures in ARCHITECTURE); together they spend it once.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedReads(Generic[T]):
    """Reads by key. `read_all`: reads several at once, without those that there are not; `most`: so many at once."""

    def __init__(self, read_all: Callable[[Collection[str]], Mapping[str, T]], *, most: int) -> None:
        self._read_all = read_all
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[_Reader[T]] = []
        self._is_reading = False

    def read(self, key: str) -> T | None:
        """What there is under this key, by a statement that begins after this call; None: nothing. Raises what the
        statement raised, in each of those who shared it."""
        mine = _Reader[T](key)
        with self._lock:
            self._waiting.append(mine)
            must_wait, self._is_reading = self._is_reading, True
        if must_wait:
            mine.called.acquire()
        if not mine.is_over:
            self._read_for_those_who_wait()
        return mine.outcome()

    def _read_for_those_who_wait(self) -> None:
        """Who reads is the first of them; of those who came meanwhile the first reads next."""
        with self._lock:
            together, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            found = self._read_all({reader.key for reader in together})
            for reader in together:
                reader.found = found.get(reader.key)
        except BaseException as error:  # noqa: BLE001 - it is raised in each of them
            for reader in together:
                reader.error = error
        for reader in together:
            reader.is_over = True
        with self._lock:
            following = self._waiting[:1]
            self._is_reading = bool(following)
        for reader in (*following, *together):
            reader.called.release()


class _Reader(Generic[T]):
    """One who wants what is under a key. `called`: it has its answer, or it is its turn to read for all who wait."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.called = threading.Lock()
        self.called.acquire()
        self.is_over = False
        self.found: T | None = None
        self.error: BaseException | None = None

    def outcome(self) -> T | None:
        if self.error is not None:
            raise self.error
        return self.found
