"""Threads of a scheduler that wait for another one's look."""

import threading
import time
from datetime import UTC, datetime

import pytest

from tasks.scheduler import work_signal as module
from tasks.scheduler.work_signal import WorkSignal
from tidegate.maintenance.cluster_facts import Outlook


def outlook(*, jobs_wait: bool = False, webhooks_wait: bool = False) -> Outlook:
    """Nothing has run out."""
    return Outlook(
        now=datetime(2026, 11, 26, tzinfo=UTC),
        deadlines=False,
        leases=False,
        places=False,
        jobs_wait=jobs_wait,
        webhooks_wait=webhooks_wait,
        schedulers=frozenset(),
    )


def waited(work_signal: WorkSignal, event: threading.Event, seconds: float) -> float:
    started = time.monotonic()
    work_signal.wait(event, seconds)
    return time.monotonic() - started


def test_who_waits_goes_on_when_a_look_sees_something() -> None:
    work_signal = WorkSignal()
    work_signal.update(outlook())
    threading.Timer(0.1, lambda: work_signal.update(outlook(webhooks_wait=True))).start()
    assert waited(work_signal, work_signal.webhooks, 30) < 15
    assert not work_signal.jobs.is_set()


def test_what_is_there_is_not_waited_for_and_what_is_gone_is() -> None:
    work_signal = WorkSignal()
    work_signal.update(outlook(jobs_wait=True))
    assert waited(work_signal, work_signal.jobs, 30) < 15
    work_signal.update(outlook())
    assert waited(work_signal, work_signal.jobs, 0.2) >= 0.2


def test_nobody_relies_on_an_old_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FRESH_SECONDS", 0.2)
    work_signal = WorkSignal()
    work_signal.update(outlook())
    assert 0.2 <= waited(work_signal, work_signal.jobs, 30) < 15
