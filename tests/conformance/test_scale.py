"""The wanted number of workers, from rows: what is due, runs and lives; the same for whoever asks; quiet when idle."""

import time
from datetime import timedelta

from sqlalchemy import select, update

from tests.support.jobs import LANE, change_lane, claim, open_lane, release, running, submit, submit_many
from tests.support.statements import asked
from tests.support.webhooks import ended_job, open_senders
from tidegate import clock
from tidegate.clock import to_microseconds
from tidegate.database.schema import deliveries, jobs, wanted_workers, workers
from tidegate.database.time import database_now
from tidegate.dispatch.scale import KEPT_FOR
from tidegate.stores import Store


def measure(store: Store, *, times: int = 1) -> None:
    """As the sampler does; twice tells how long calls take."""
    for number in range(times):
        if number:
            time.sleep(0.05)
        store.samples.sample()
        store.scale.measure(store.samples.due)


def occupy(store: Store) -> None:
    """Claims what the gate lets go."""
    for released in release(store):
        assert claim(store, released)


def test_nothing_waits_and_nothing_is_wanted(store: Store) -> None:
    open_lane(store)
    measure(store)
    found = store.scale.wanted()
    assert {queue: (each.workers, each.places, each.wanted) for queue, each in found.items()} == {"io": (1, 8, 0)}
    assert found["io"].because == "nothing waits and nothing runs"


def test_a_backlog_asks_for_the_places_of_its_concurrency_by_each_store_alike(store: Store) -> None:
    open_lane(store, concurrency=30)
    submit_many(store, 200)
    measure(store)
    assert store.scale.wanted()["io"].wanted == 1, "how long its calls take is not known yet"
    occupy(store)
    time.sleep(1.05)
    measure(store)
    found = store.scale.wanted()["io"]
    assert (found.workers, found.places, found.wanted) == (1, 8, 4)
    assert found.because == f"{LANE} can use 30 place(s) now, for its concurrency is 30"
    assert Store(store.database).scale.wanted()["io"] == found


def test_a_lane_with_jobs_in_two_queues_asks_in_both(store: Store) -> None:
    open_lane(store)
    submit_many(store, 30, queue="cpu")
    submit_many(store, 10)
    store.samples.sample()
    assert store.samples.due == {LANE: {"cpu": 30, "io": 10}}


def test_of_two_schedulers_the_one_that_sampled_writes(store: Store) -> None:
    open_lane(store)
    submit_many(store, 5)
    other = Store(store.database)
    store.samples.sample()
    other.samples.sample()
    assert other.samples.due is None
    assert other.scale.measure(other.samples.due) is True
    assert store.database.fetch_all(select(wanted_workers)) == []
    assert store.scale.measure(store.samples.due) is True
    store.samples.sample()
    assert store.samples.due == {LANE: {"io": 5}}, "its own sample is not old yet"


def test_a_worker_that_retires_is_not_counted_and_makes_the_others_no_smaller(store: Store) -> None:
    open_lane(store)
    submit_many(store, 20)
    store.heartbeats.beat("retiring", queue="io", size=0, until=timedelta(seconds=30))
    measure(store)
    found = store.scale.wanted()["io"]
    (places_each,) = store.database.fetch_all(select(wanted_workers.c.places_each))
    assert (found.workers, found.places, places_each) == (1, 8, (8,))


def test_a_lane_whose_jobs_may_not_go_yet_or_that_is_paused_asks_for_nothing(store: Store) -> None:
    open_lane(store)
    later = submit(store)
    store.database.execute(update(jobs).where(jobs.c.id == later).values(run_at=database_now(timedelta(seconds=30))))
    open_lane(store, "paused")
    change_lane(store, "paused", paused=True)
    submit_many(store, 100, lane="paused")
    measure(store, times=2)
    assert store.scale.wanted()["io"].wanted == 0


def test_a_number_is_kept_for_a_minute_and_then_what_runs_counts(store: Store) -> None:
    open_lane(store)
    running(store)
    submit_many(store, 100)
    measure(store)
    _ask(store, "io", 9)
    found = store.scale.wanted()["io"]
    assert (found.wanted, found.because) == (9, "within the last minute: of the test")
    _age(store)
    found = store.scale.wanted()["io"]
    assert (found.wanted, found.because) == (1, "1 place(s) are taken now")


def test_a_queue_of_any_name_is_told_and_its_size_is_remembered(store: Store) -> None:
    open_lane(store, "pictures", queue="gpu", size=2)
    submit_many(store, 10, lane="pictures", queue="gpu")
    measure(store)
    store.database.execute(update(workers).values(seen_until=database_now(timedelta(seconds=-1))))
    measure(store)
    (places_each,) = store.database.fetch_all(select(wanted_workers.c.places_each))
    assert places_each == (2,)
    found = store.scale.wanted()["gpu"]
    assert (found.workers, found.places, found.wanted) == (0, 0, 1)


def test_webhooks_that_are_due_ask_for_those_who_send_them(store: Store) -> None:
    open_senders(store, places=1)
    ended_job(store, "http://127.0.0.1:8080/hook")
    ended_job(store, "http://127.0.0.2:8080/hook")
    measure(store)
    found = store.scale.wanted()["webhooks"]
    assert (found.workers, found.wanted) == (1, 2)
    assert found.because == "2 webhooks are due to 2 receivers, 0 are being sent"
    store.database.execute(update(deliveries).values(state="delivered", run_at=None, ended_at=database_now()))
    _age(store)
    measure(store)
    assert store.scale.wanted()["webhooks"].wanted == 0


def test_an_idle_minute_costs_no_statement_more_and_a_look_costs_one(store: Store) -> None:
    open_lane(store)
    measure(store)
    with asked(store.database) as cost:
        assert store.scale.measure({}, webhooks_wait=False) is False
    assert cost.statements == []
    with asked(store.database) as cost:
        store.scale.wanted()
    assert len(cost.statements) == 1, str(cost)


def test_what_runs_is_looked_at_until_it_ends(store: Store) -> None:
    open_lane(store)
    running(store)
    measure(store)
    assert store.scale.measure({}, webhooks_wait=False) is True
    assert store.scale.wanted()["io"].wanted == 1


def test_a_number_that_stays_is_not_written_again_at_once(store: Store) -> None:
    open_lane(store)
    submit_many(store, 3)
    measure(store)
    before = store.database.fetch_all(select(wanted_workers))
    measure(store)
    assert store.database.fetch_all(select(wanted_workers)) == before


def _ask(store: Store, queue: str, number: int) -> None:
    at = to_microseconds(clock.now())
    text = f'[[{at - 10_000_000}, {number}, "of the test"], [{at}, 1, ""]]'
    store.database.execute(update(wanted_workers).where(wanted_workers.c.queue == queue).values(asked=text))


def _age(store: Store) -> None:
    """As if it had been written a minute ago."""
    at = to_microseconds(clock.now() - KEPT_FOR)
    store.database.execute(update(wanted_workers).values(asked=f'[[{at}, 5, "long ago"]]'))
