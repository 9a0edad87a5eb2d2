"""An operation that makes many calls takes a slot for each (`paced="calls"`), and they keep the lane's pace."""

import threading
import time
from datetime import timedelta

import pytest

from tests.support.jobs import LEASE, attempts_of, open_lane, row_of
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.dispatch.gate import Gate
from tidegate.errors import AttemptStopped
from tidegate.execution.handoff import SilentHandoff
from tidegate.execution.runner import Runner
from tidegate.intake.submission import NewJob
from tidegate.notify.notifier import SilentNotifier
from tidegate.operations.operation import Attempt, Body
from tidegate.operations.python_operation import PythonOperation, operation
from tidegate.operations.registry import Registry
from tidegate.stores import Store

CALLS = 4
EVERY = 0.05


class Caller:
    """An operation that makes calls, and when it made them."""

    def __init__(self) -> None:
        self.called_at: list[float] = []
        self.stopped = threading.Event()
        self.made = threading.Event()

    def operation(self, calls: int, attempt_timeout: str = "20s") -> PythonOperation:
        """It calls so many times, in one thread."""

        @operation(name="crawl", downstream="site", paced="calls", attempt_timeout=attempt_timeout)
        def crawl(params: int, attempt: Attempt) -> int:
            """Calls."""
            for _ in range(calls):
                try:
                    attempt.slot()
                except AttemptStopped:
                    self.stopped.set()
                    raise
                self.called_at.append(time.monotonic())
                self.made.set()
            return calls

        return crawl


@pytest.fixture
def caller() -> Caller:
    """What the test's operation is made of."""
    return Caller()


def submit(store: Store, number: int = 0) -> str:
    """Records a job of the operation."""
    job_id = f"0199c5a0-0000-7000-8000-00000000000{number}"
    job = NewJob(
        id=job_id,
        client_id=IMPLICIT_CLIENT,
        operation="crawl",
        downstream="site",
        queue="io",
        timeout=timedelta(minutes=1),
        max_attempts=1,
        paced_by_calls=True,
        body=Body(content=b"1"),
    )
    store.submissions.insert([job])
    return job_id


def runner(store: Store, crawl: PythonOperation) -> Runner:
    """A worker that knows the operation."""
    registry = Registry.of([crawl])
    return Runner(
        store, registry, worker="io-1", lease=LEASE, max_result=1000, notifier=SilentNotifier(), handoff=SilentHandoff()
    )


def test_each_call_of_two_attempts_side_by_side_takes_one_slot_and_the_pace_is_kept(
    store: Store, caller: Caller
) -> None:
    open_lane(store, "site", rates=(f"{round(1 / EVERY)}/s",), burst=1)
    for number in range(2):
        submit(store, number)
    crawl = runner(store, caller.operation(CALLS))
    released = list(Gate(store.lanes).run_once().released)
    assert len(released) == 2, "a release takes no slot: its calls do"

    began = time.monotonic()
    threads = [threading.Thread(target=crawl.run, args=(job.job_id, job.fence)) for job in released]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    called_at = sorted(caller.called_at)
    assert len(called_at) == 2 * CALLS
    # Counted from the beginning: a busy machine makes calls late, and never early.
    assert all(at >= began + number * EVERY for number, at in enumerate(called_at))
    assert [row_of(store, job.job_id).state for job in released] == ["succeeded"] * 2


def test_a_burst_of_calls_goes_at_once(store: Store, caller: Caller) -> None:
    open_lane(store, "site", rates=(f"{CALLS}/{CALLS}s",), burst=CALLS)
    job_id = submit(store)
    (released,) = Gate(store.lanes).run_once().released
    began = time.monotonic()
    assert runner(store, caller.operation(CALLS)).run(job_id, released.fence)
    assert time.monotonic() - began < CALLS - 1.5, "without the burst it would be 3 s; a slot may be missed"
    assert len(caller.called_at) == CALLS
    assert row_of(store, job_id).state == "succeeded"


def test_a_cancel_is_seen_at_the_next_slot(store: Store, caller: Caller) -> None:
    open_lane(store, "site", rates=("10/s",), burst=1)
    job_id = submit(store)
    (released,) = Gate(store.lanes).run_once().released
    crawl = runner(store, caller.operation(1000))
    thread = threading.Thread(target=crawl.run, args=(job_id, released.fence))
    thread.start()
    assert caller.made.wait(timeout=10)

    store.callers.cancel(job_id, IMPLICIT_CLIENT)

    thread.join(timeout=10)
    assert caller.stopped.is_set()
    assert row_of(store, job_id).state == "cancelled"
    assert [attempt.outcome for attempt in attempts_of(store, job_id)] == ["stopped"]
    assert len(caller.called_at) < 1000


def test_a_cancel_is_seen_while_a_slot_far_away_is_waited_for(
    store: Store, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a machine that stands still for 20 ms the first slot would be missed, and the next is an hour away.
    monkeypatch.setattr("tidegate.rate_limit.LATE", 10_000_000)
    open_lane(store, "site", rates=("1/h",), burst=1)
    job_id = submit(store)
    (released,) = Gate(store.lanes).run_once().released
    crawl = runner(store, caller.operation(2))
    thread = threading.Thread(target=crawl.run, args=(job_id, released.fence))
    thread.start()
    assert caller.made.wait(timeout=10)
    store.callers.cancel(job_id, IMPLICIT_CLIENT)
    thread.join(timeout=10)
    assert not thread.is_alive(), "it looks about once a second"
    assert row_of(store, job_id).state == "cancelled"
