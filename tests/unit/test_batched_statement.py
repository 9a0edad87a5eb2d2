"""Threads that meet share a statement that begins after they came; each has its own answer, and its own failure."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.support.waiting import wait_until
from tidegate.database.batching import BatchedStatement
from tidegate.errors import DatabaseUnreachableError

LIMIT_SECONDS = 10


class Rows:
    """What is read: rows that change, and a door that a read can be held at. Remembers every read."""

    def __init__(self, **rows: int) -> None:
        self.rows = dict(rows)
        self.reads: list[set[str]] = []
        self.failure: Exception | None = None
        self.is_open = threading.Event()
        self.is_open.set()

    def read(self, keys: Sequence[str]) -> Sequence[int | None]:
        self.reads.append(set(keys))
        found = [self.rows.get(key) for key in keys]
        failure = self.failure
        assert self.is_open.wait(LIMIT_SECONDS)
        if failure:
            raise failure
        return found


def meet(
    pool: ThreadPoolExecutor, reads: BatchedStatement[str, int | None], rows: Rows, keys: list[str]
) -> list[Future[int | None]]:
    """All of these come while another's read, of "first", is on its way."""
    rows.is_open.clear()
    first = pool.submit(reads.run, "first")
    wait_until(lambda: rows.reads[-1:] == [{"first"}], description="the first one reads")
    others = [pool.submit(reads.run, key) for key in keys]
    wait_until(lambda: len(reads._waiting) == len(keys), description="the others wait")
    return [first, *others]


def test_those_who_come_during_a_read_share_the_next_one() -> None:
    rows = Rows(first=1, a=2, b=3)
    reads = BatchedStatement(rows.read, most=8)
    with ThreadPoolExecutor(8) as pool:
        answers = meet(pool, reads, rows, ["a", "b", "a", "unknown"])
        rows.is_open.set()
        assert [answer.result(LIMIT_SECONDS) for answer in answers] == [1, 2, 3, 2, None]
    assert rows.reads == [{"first"}, {"a", "b", "unknown"}]


def test_a_read_begins_after_the_call_that_it_answers() -> None:
    """Who has seen a change committed, or made it, never reads what was before it."""
    rows = Rows(first=1)
    reads = BatchedStatement(rows.read, most=8)
    with ThreadPoolExecutor(8) as pool:
        old, *_ = meet(pool, reads, rows, [])
        rows.rows["first"] = 2
        new = pool.submit(reads.run, "first")
        wait_until(lambda: len(reads._waiting) == 1, description="it waits for a read of its own")
        rows.is_open.set()
        assert (old.result(LIMIT_SECONDS), new.result(LIMIT_SECONDS)) == (1, 2)


def test_no_more_than_so_many_are_read_at_once() -> None:
    rows = Rows(first=0, **{f"k{number}": number for number in range(7)})
    reads = BatchedStatement(rows.read, most=3)
    with ThreadPoolExecutor(8) as pool:
        answers = meet(pool, reads, rows, [f"k{number}" for number in range(7)])
        rows.is_open.set()
        assert [answer.result(LIMIT_SECONDS) for answer in answers] == [0, *range(7)]
    assert [len(read) for read in rows.reads] == [1, 3, 3, 1]


def test_one_that_fails_fails_alone() -> None:
    """Those who shared its statement have theirs again, each by itself."""
    rows = Rows(first=1, a=2, b=3)

    def read(keys: Sequence[str]) -> Sequence[int | None]:
        found = rows.read(keys)
        if "bad" in keys:
            raise LookupError("on purpose")
        return found

    reads = BatchedStatement(read, most=8)
    with ThreadPoolExecutor(8) as pool:
        first, one, bad, other = meet(pool, reads, rows, ["a", "bad", "b"])
        rows.is_open.set()
        assert [each.result(LIMIT_SECONDS) for each in (first, one, other)] == [1, 2, 3]
        with pytest.raises(LookupError, match="on purpose"):
            bad.result(LIMIT_SECONDS)
    assert rows.reads == [{"first"}, {"a", "bad", "b"}, {"a"}, {"bad"}, {"b"}]


def test_a_database_that_is_away_is_asked_once_for_all_of_them() -> None:
    rows = Rows(first=1, a=2)
    reads = BatchedStatement(rows.read, most=8)
    with ThreadPoolExecutor(8) as pool:
        first, *others = meet(pool, reads, rows, ["a", "a"])
        rows.failure = DatabaseUnreachableError("on purpose")
        rows.is_open.set()
        assert first.result(LIMIT_SECONDS) == 1
        for other in others:
            with pytest.raises(DatabaseUnreachableError, match="on purpose"):
                other.result(LIMIT_SECONDS)
        rows.failure = None
    assert len(rows.reads) == 2
    assert reads.run("a") == 2, "and nobody waits for ever"


def test_alone_each_reads_for_itself() -> None:
    rows = Rows(a=1)
    reads = BatchedStatement(rows.read, most=8)
    assert [reads.run("a"), reads.run("b"), reads.run("a")] == [1, None, 1]
    assert len(rows.reads) == 3


def test_many_threads_at_once_each_have_their_own_answer() -> None:
    """None waits for ever, none has another's answer."""
    rows = Rows(**{f"k{number}": number for number in range(50)})
    reads = BatchedStatement(rows.read, most=4)

    def read_often(seed: int) -> None:
        for step in range(300):
            number = (seed * 7 + step) % 60
            assert reads.run(f"k{number}") == (number if number < 50 else None)

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(read_often, seed) for seed in range(16)]:
            done.result(60)
