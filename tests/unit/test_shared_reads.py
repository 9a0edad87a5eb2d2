"""Readers that meet share a read that begins after they came; each has its own answer, or the failure of all."""

import threading
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.support.waiting import wait_until
from tidegate.shared_reads import SharedReads

LIMIT_SECONDS = 10


class Rows:
    """What is read: rows that change, and a door that a read can be held at. Remembers every read."""

    def __init__(self, **rows: int) -> None:
        self.rows = dict(rows)
        self.reads: list[set[str]] = []
        self.failure: Exception | None = None
        self.is_open = threading.Event()
        self.is_open.set()

    def read(self, keys: Collection[str]) -> Mapping[str, int]:
        self.reads.append(set(keys))
        found = {key: self.rows[key] for key in keys if key in self.rows}
        failure = self.failure
        assert self.is_open.wait(LIMIT_SECONDS)
        if failure:
            raise failure
        return found


def meet(pool: ThreadPoolExecutor, reads: SharedReads[int], rows: Rows, keys: list[str]) -> list[Future[int | None]]:
    """All of these come while another's read, of "first", is on its way."""
    rows.is_open.clear()
    first = pool.submit(reads.read, "first")
    wait_until(lambda: rows.reads[-1:] == [{"first"}], description="the first one reads")
    others = [pool.submit(reads.read, key) for key in keys]
    wait_until(lambda: len(reads._waiting) == len(keys), description="the others wait")
    return [first, *others]


def test_those_who_come_during_a_read_share_the_next_one() -> None:
    rows = Rows(first=1, a=2, b=3)
    reads = SharedReads(rows.read, most=8)
    with ThreadPoolExecutor(8) as pool:
        answers = meet(pool, reads, rows, ["a", "b", "a", "unknown"])
        rows.is_open.set()
        assert [answer.result(LIMIT_SECONDS) for answer in answers] == [1, 2, 3, 2, None]
    assert rows.reads == [{"first"}, {"a", "b", "unknown"}]


def test_a_read_begins_after_the_call_that_it_answers() -> None:
    """Who has seen a change committed, or made it, never reads what was before it."""
    rows = Rows(first=1)
    reads = SharedReads(rows.read, most=8)
    with ThreadPoolExecutor(8) as pool:
        old, *_ = meet(pool, reads, rows, [])
        rows.rows["first"] = 2
        new = pool.submit(reads.read, "first")
        wait_until(lambda: len(reads._waiting) == 1, description="it waits for a read of its own")
        rows.is_open.set()
        assert (old.result(LIMIT_SECONDS), new.result(LIMIT_SECONDS)) == (1, 2)


def test_no_more_than_so_many_are_read_at_once() -> None:
    rows = Rows(first=0, **{f"k{number}": number for number in range(7)})
    reads = SharedReads(rows.read, most=3)
    with ThreadPoolExecutor(8) as pool:
        answers = meet(pool, reads, rows, [f"k{number}" for number in range(7)])
        rows.is_open.set()
        assert [answer.result(LIMIT_SECONDS) for answer in answers] == [0, *range(7)]
    assert [len(read) for read in rows.reads] == [1, 3, 3, 1]


def test_a_failure_is_told_to_those_who_shared_it_and_to_nobody_else() -> None:
    rows = Rows(first=1, a=2)
    reads = SharedReads(rows.read, most=8)
    with ThreadPoolExecutor(8) as pool:
        rows.failure = LookupError("on purpose")
        failed, *good = meet(pool, reads, rows, ["a", "a"])
        rows.failure = None
        rows.is_open.set()
        with pytest.raises(LookupError, match="on purpose"):
            failed.result(LIMIT_SECONDS)
        assert [answer.result(LIMIT_SECONDS) for answer in good] == [2, 2]
    assert reads.read("a") == 2, "and nobody waits for ever"


def test_alone_each_reads_for_itself() -> None:
    rows = Rows(a=1)
    reads = SharedReads(rows.read, most=8)
    assert [reads.read("a"), reads.read("b"), reads.read("a")] == [1, None, 1]
    assert len(rows.reads) == 3


def test_many_threads_at_once_each_have_their_own_answer() -> None:
    """None waits for ever, none has another's answer."""
    rows = Rows(**{f"k{number}": number for number in range(50)})
    reads = SharedReads(rows.read, most=4)

    def read_often(seed: int) -> None:
        for step in range(300):
            number = (seed * 7 + step) % 60
            assert reads.read(f"k{number}") == (number if number < 50 else None)

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(read_often, seed) for seed in range(16)]:
            done.result(60)
