"""A scrape stays small with downstreams by the thousand: the busiest by name, the rest as one; and no counter falls."""

from datetime import timedelta

import pytest
from sqlalchemy import insert, update

from tests.support.jobs import LANE, open_lane, running, submit
from tests.support.scrape import Scrape, write_counts
from tests.support.web import Web
from tidegate.database.schema import downstreams
from tidegate.database.time import database_now
from tidegate.metrics import store as count_store
from tidegate.metrics.busiest import MOST, MOST_PARTITIONS, REST, Busiest, chosen
from tidegate.metrics.families import ATTEMPT_SECONDS, ATTEMPTS, CALLS, FINISHED, SUBMITS
from tidegate.operations.declaration import NAME
from tidegate.stores import Store

_LANES = MOST + 40
on_both = pytest.mark.both_databases("the busiest are chosen and the rest is summed by SQL")


def declare_many(store: Store) -> None:
    """Downstreams of which the later ones let more jobs go, without a round trip for each."""
    declared = '{"rates": [], "burst": 1, "concurrency": null, "breaker_after": 10, "jitter": 0}'
    row = {"rates": "[]", "burst": 1, "concurrency": None, "breaker_after": 10, "declared": declared, "pace": "{}"}
    lanes = [{**row, "name": f"lane-{number:03}", "released": number} for number in range(_LANES)]
    with store.database.transaction() as connection:
        connection.execute(insert(downstreams), lanes)


def scrape(web: Web, *, later: bool = False) -> Scrape:
    """What Prometheus gets; `later`: after the busiest have been chosen anew."""
    if later:
        web.store.counted._chosen_at = web.app.extensions["tidegate"].store.counted._chosen_at = float("-inf")
    return Scrape(web.client.get("/metrics").get_data(as_text=True))


@on_both
def test_the_busiest_have_series_and_the_rest_has_one(web: Web) -> None:
    store = web.store
    declare_many(store)
    store.database.execute(update(downstreams).where(downstreams.c.name == "lane-000").values(paused=True, failures=10))
    resting = update(downstreams).where(downstreams.c.name.in_(["lane-001", "lane-002"]))
    store.database.execute(resting.values(paused_until=database_now(timedelta(minutes=1))))
    open_lane(store, LANE)
    running(store)
    for _ in range(3):
        submit(store, lane="lane-003")
    store.samples.sample()

    found = scrape(web)

    for name in ("tidegate_releases_total", "tidegate_downstream_failures_in_a_row"):
        assert len([1 for family in found.families for each in family.samples if each.name == name]) == MOST
    for name, number in {
        "tidegate_backlog_jobs": 3,
        "tidegate_downstream_in_flight": 1,
        "tidegate_downstream_breaker_open": 1,
    }.items():
        of_it = [each for family in found.families for each in family.samples if each.name == name]
        assert len(of_it) == MOST + 1
        assert found.value(name, downstream=REST) == number
    assert found.value("tidegate_downstream_paused", downstream=REST, by="operator") == 1
    assert found.value("tidegate_downstream_paused", downstream=REST, by="downstream") == 2
    assert (found.value("tidegate_oldest_due_job_age_seconds", downstream=REST) or 0) > 0
    assert found.value("tidegate_backlog_jobs", downstream=f"lane-{_LANES - 1}") == 0
    assert found.value("tidegate_jobs", state="queued") == 3
    assert not NAME.fullmatch(REST)


@on_both
def test_no_counter_falls_when_another_downstream_becomes_one_of_the_busiest(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = web.store
    declare_many(store)
    quiet, busy = "lane-000", f"lane-{_LANES - 1}"
    for name in (quiet, busy, "lane-001"):
        store.counts.add(CALLS, name, by=5)
    write_counts(store)
    first = scrape(web)
    store.database.execute(update(downstreams).where(downstreams.c.name == quiet).values(released=1_000_000))
    monkeypatch.setattr(count_store, "_CHOOSE_SECONDS", -1.0)
    for name in (quiet, busy, "lane-001"):
        store.counts.add(CALLS, name, by=2)
    write_counts(store)

    second = scrape(web)

    assert [first.value(CALLS.name, downstream=name) for name in (quiet, busy, REST)] == [None, 5, 10]
    assert [second.value(CALLS.name, downstream=name) for name in (quiet, busy, REST)] == [2, 7, 12]
    assert second.total(CALLS.name) == first.total(CALLS.name) + 6


@on_both
def test_what_was_chosen_stays_in_all_processes(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A little more than another is not enough to take its place; and one that is declared no more leaves it."""
    declare_many(web.store)
    first = web.store.counted.busiest().names
    assert first == frozenset(f"lane-{number:03}" for number in range(_LANES - MOST, _LANES))
    web.store.database.execute(update(downstreams).where(downstreams.c.name == "lane-000").values(released=150))
    assert Store(web.store.database).counted.busiest().names == first

    web.store.database.execute(downstreams.delete().where(downstreams.c.name == "lane-139"))
    monkeypatch.setattr(count_store, "_CHOOSE_SECONDS", -1.0)

    assert web.store.counted.busiest().names == first - {"lane-139"} | {"lane-000"}


def test_operations_of_the_rest_are_counted_together() -> None:
    """Whether a family has both labels or the operation's alone."""
    busiest = Busiest(frozenset({"crm"}), {"ask": "crm", "tell": "fax", "call": "fax"})
    counts = {
        (SUBMITS.name, ("ask", "recorded")): 1.0,
        (SUBMITS.name, ("tell", "recorded")): 2.0,
        (SUBMITS.name, ("call", "recorded")): 3.0,
        (FINISHED.name, ("unheard of", "failed")): 4.0,
        (ATTEMPTS.name, ("tell", "fax", "failed")): 5.0,
        (f"{ATTEMPT_SECONDS.name}_bucket", ("call", "fax", "0.1")): 6.0,
        (CALLS.name, ("crm",)): 7.0,
        ("tidegate_webhooks_failed_total", ()): 8.0,
    }

    folded = busiest.folded(counts)

    assert folded == {
        (SUBMITS.name, ("ask", "recorded")): 1.0,
        (SUBMITS.name, (REST, "recorded")): 5.0,
        (FINISHED.name, ("unheard of", "failed")): 4.0,
        (ATTEMPTS.name, (REST, REST, "failed")): 5.0,
        (f"{ATTEMPT_SECONDS.name}_bucket", (REST, REST, "0.1")): 6.0,
        (CALLS.name, ("crm",)): 7.0,
        ("tidegate_webhooks_failed_total", ()): 8.0,
    }
    assert busiest.own({**counts, **folded}) == folded
    assert Busiest().folded(counts) == Busiest().own(counts) == counts


def test_a_place_changes_hands_only_so_often() -> None:
    """However equally busy many are, whoever is ahead at the moment."""
    released = {f"lane-{number}": 0 for number in range(1000)}
    named, changes = chosen((), released), 0
    for turn in range(200):
        for number, name in enumerate(released):
            released[name] += 1 + (number + turn) % 3
        now = chosen(named, released)
        changes += len(now - named)
        named = now

    assert len(named) == MOST
    assert changes == 0


def test_of_those_that_wait_the_much_busier_takes_a_place_and_no_other() -> None:
    """What waits goes up and down: of twenty, and by ten more than twice as many."""
    waiting = {f"p{number:02}": 30 for number in range(MOST_PARTITIONS)}
    named = chosen((), waiting, most=MOST_PARTITIONS, more=10)
    for number, is_taken in ((70, False), (71, True)):
        found = chosen(named, {**waiting, "other": number}, most=MOST_PARTITIONS, more=10)
        assert len(found) == MOST_PARTITIONS
        assert ("other" in found) is is_taken
