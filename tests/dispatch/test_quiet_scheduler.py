"""A scheduler with nothing to do: one look a second for all of its threads, and nothing that it would be late for."""

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from tasks.health_file import HealthFile
from tasks.scheduler.courier import Courier
from tasks.scheduler.process import Scheduler
from tasks.scheduler.publisher import Publisher
from tasks.scheduler.sampler import Sampler
from tasks.scheduler.work_signal import WorkSignal
from tests.support.jobs import LANE, open_lane, release_one, submit
from tests.support.statements import asked
from tests.support.valkey import Valkey
from tests.support.webhooks import ended_job, open_senders
from tidegate.jobs.job import Released
from tidegate.notify.listener import Listener
from tidegate.notify.notifier import SilentNotifier
from tidegate.stores import Store
from tidegate.webhooks.delivery import ReleasedDelivery


class Sent:
    """Stands for the broker: keeps what was published."""

    def __init__(self) -> None:
        self.jobs: list[Released] = []
        self.deliveries: list[ReleasedDelivery] = []

    def send(self, released: Sequence[Released]) -> bool:
        self.jobs += released
        return True

    def send_deliveries(self, released: Sequence[ReleasedDelivery]) -> bool:
        self.deliveries += released
        return True


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def work_signal() -> WorkSignal:
    return WorkSignal()


@pytest.fixture
def scheduler(store: Store, broker: Valkey, sent: Sent, work_signal: WorkSignal, tmp_path: Path) -> Iterator[Scheduler]:
    """One that has nothing left of its beginning: it hears, has said that it lives, and looked for old rows."""
    listener = Listener(broker.url)
    listener.hear(0.1)
    scheduler = Scheduler(
        store,
        cast("Publisher", sent),
        SilentNotifier(),
        listener,
        retention=timedelta(days=1),
        lease=timedelta(seconds=15),
        pulse=HealthFile(tmp_path / "scheduler.alive"),
        work_signal=work_signal,
    )
    scheduler.run_once()
    yield scheduler
    listener.close()


def turns(scheduler: Scheduler, seconds: float) -> None:
    """As it runs by itself, for so long."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        scheduler.wait(min(left, scheduler.run_once()), threading.Event())


@pytest.mark.both_databases("how many statements a look is differs")
def test_a_second_of_a_quiet_scheduler_is_one_statement(store: Store, scheduler: Scheduler) -> None:
    open_lane(store)

    with asked(store.database) as cost:
        turns(scheduler, 3.5)

    assert 2 <= len(cost.statements) <= 4, str(cost)
    assert len(set(cost.statements)) == 1, str(cost)


def test_a_job_whose_ring_was_lost_is_released_with_the_next_look(
    store: Store, scheduler: Scheduler, sent: Sent
) -> None:
    open_lane(store)
    turns(scheduler, 0.5)
    job_id = submit(store)

    turns(scheduler, 2)

    assert [released.job_id for released in sent.jobs] == [job_id]


def test_a_lane_that_is_rung_for_is_released_at_once_though_the_look_saw_nothing(
    store: Store, scheduler: Scheduler, sent: Sent
) -> None:
    open_lane(store)
    turns(scheduler, 0.5)
    job_id = submit(store)
    scheduler._messages.append(LANE.encode())

    scheduler.run_once()

    assert [released.job_id for released in sent.jobs] == [job_id]


def test_the_sampler_rests_until_jobs_wait(store: Store, scheduler: Scheduler, work_signal: WorkSignal) -> None:
    open_lane(store)
    sampler, stopped = Sampler(store.samples, store.scale, work_signal), threading.Event()
    sampler.run_once()

    assert not _returns(sampler.wait, 0, stopped, within=0.5)

    submit(store)
    work_signal.update(store.upkeep.read_outlook())
    assert _returns(sampler.wait, 0, stopped)
    sampler.run_once()
    assert [sample.backlog for sample in store.samples.latest() if sample.downstream == LANE] == [1]


def test_the_sampler_sees_that_a_backlog_is_gone_before_it_rests(store: Store, work_signal: WorkSignal) -> None:
    open_lane(store)
    sampler, stopped = Sampler(store.samples, store.scale, work_signal), threading.Event()
    submit(store)
    sampler.run_once()
    release_one(store)
    work_signal.update(store.upkeep.read_outlook())

    assert _returns(sampler.wait, 0.9, stopped)
    sampler.run_once()

    assert [sample.backlog for sample in store.samples.latest() if sample.downstream == LANE] == [0]
    assert not _returns(sampler.wait, 0, stopped, within=0.5)


def test_the_courier_rests_until_a_webhook_waits(store: Store, work_signal: WorkSignal, sent: Sent) -> None:
    courier, stopped = Courier(store.sending, cast("Publisher", sent), work_signal, None), threading.Event()
    courier.run_once()
    work_signal.update(store.upkeep.read_outlook())
    rest = threading.Thread(target=courier.wait, args=(0, stopped), daemon=True)
    rest.start()
    rest.join(0.5)
    assert rest.is_alive()

    job_id = ended_job(store, "http://127.0.0.1:8080/hook")
    open_senders(store)
    work_signal.update(store.upkeep.read_outlook())

    rest.join(10)
    assert not rest.is_alive()
    courier.run_once()
    assert [delivery.job_id for delivery in sent.deliveries] == [job_id]


def _returns(wait: Any, *arguments: Any, within: float = 10.0) -> bool:
    """Whether it does, in so many seconds."""
    waiting = threading.Thread(target=wait, args=arguments, daemon=True)
    waiting.start()
    waiting.join(within)
    return not waiting.is_alive()
