"""What a held request waits with: it wakes for news and for nothing else."""

import threading
import time
from typing import Any

import pytest

from tidegate import clock
from tidegate.jobs.job import Job
from tidegate.notify.subscription import Subscription
from tidegate.states import State


def job(version: int) -> Job:
    values: dict[str, Any] = dict.fromkeys(Job.__dataclass_fields__)
    now = clock.now()
    return Job(**{**values, "id": "it", "state": State.QUEUED, "version": version, "deadline": now, "seen_at": now})


class SlowEvent(threading.Event):
    """As when the thread that tells loses its turn just before it wakes who waits."""

    is_slow = False

    def set(self) -> None:
        if self.is_slow:
            time.sleep(0.1)
        super().set()


def test_a_change_that_comes_while_another_is_fetched_wakes_nobody_without_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading, "Event", SlowEvent)
    watch = Subscription(job(1), lambda _: None)
    watch.deliver((job(2), None))
    monkeypatch.setattr(SlowEvent, "is_slow", True)
    telling = threading.Thread(target=watch.deliver, args=((job(3), None),))
    telling.start()
    time.sleep(0.05)  # it has written its news and not yet woken anybody
    versions = []
    began = time.monotonic()
    while news := watch.next(0.5 - (time.monotonic() - began)):
        versions.append(news[0].version)
    waited = time.monotonic() - began
    telling.join()

    assert versions[-1] == 3
    assert waited >= 0.5, "it was told nothing more, and so it waited until its time was over"


def test_no_change_is_lost_while_another_is_fetched() -> None:
    watch = Subscription(job(1), lambda _: None)
    last = 2000

    def tell() -> None:
        for version in range(2, last + 1):
            watch.deliver((job(version), None))

    telling = threading.Thread(target=tell)
    telling.start()
    seen = [1]
    while seen[-1] < last and (news := watch.next(5)):
        seen.append(news[0].version)
    telling.join()
    assert seen[-1] == last
    assert seen == sorted(set(seen))
