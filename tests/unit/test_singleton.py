"""What a process has one of is made once, whoever asks first."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.worker.singleton import once

_THREADS = 8


def test_threads_that_meet_have_the_same() -> None:
    meeting = threading.Barrier(_THREADS)

    @once
    def make() -> object:
        time.sleep(0.05)  # as long as connections take
        return object()

    def ask(_: int) -> object:
        meeting.wait()
        return make()

    with ThreadPoolExecutor(_THREADS) as pool:
        assert len(set(pool.map(ask, range(_THREADS)))) == 1


def test_what_failed_is_tried_again() -> None:
    tries = []

    @once
    def make() -> str:
        tries.append("tried")
        if len(tries) == 1:
            raise OSError("not yet")
        return "made"

    with pytest.raises(OSError, match="not yet"):
        make()
    assert make() == make() == "made"
    assert len(tries) == 2
