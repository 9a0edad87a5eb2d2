"""What a web process reads of many lanes: those that were asked for, of them what changed, and nothing is missed."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import delete, text, update

from tests.support.jobs import open_lane, release_one, submit
from tests.support.statements import asked
from tidegate.database.connection import Database
from tidegate.database.schema import downstreams
from tidegate.dispatch import lane_cache, lane_copies, samples
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.dispatch.lane_rows import LaneRow, LaneRows
from tidegate.dispatch.sample import Sample
from tidegate.operations.limits import Limits
from tidegate.stores import Store

_NAMES = [f"lane-{number}" for number in range(20)]


@pytest.fixture
def lanes(store: Store) -> LaneCache:
    """The copy of a web process."""
    store.limits.declare([Limits(name=name, rates=("10/s",)) for name in _NAMES])
    return LaneCache(store)


@pytest.fixture
def never_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if half a second passed between any two looks."""
    monkeypatch.setattr(lane_cache, "_FRESH_SECONDS", -1.0)


def rows_of(found: LaneRows) -> dict[str, LaneRow | None]:
    """As the copies that were read."""
    return {row.name: row for row in found.rows}


def test_of_the_lanes_that_were_asked_for_only_those_that_changed_are_sent(store: Store, lanes: LaneCache) -> None:
    """Whoever wrote it: an operator, a release, the sampler."""
    first = store.lane_rows.read(dict.fromkeys(_NAMES[:10]), since=None)
    assert [row.name for row in first.rows] == _NAMES[:10]
    store.limits.change(_NAMES[1], {"concurrency": 3}, paused=None)
    store.limits.change(_NAMES[11], {}, paused=True)
    open_lane(store, _NAMES[2])
    submit(store, lane=_NAMES[2])
    release_one(store)
    store.samples.sample()
    store.database.execute(text("UPDATE samples SET taken_at = taken_at - 1000000"))

    again = store.lane_rows.read({**rows_of(first), _NAMES[12]: None}, since=first.version)

    changed = {row.name: row.downstream(again.now) for row in again.rows}
    assert {_NAMES[1], _NAMES[2], _NAMES[12]} <= changed.keys()
    assert changed[_NAMES[1]].limits.concurrency == 3
    assert changed[_NAMES[2]].released == 1
    assert again.held == 1
    assert store.lane_rows.read(rows_of(again), since=again.version).rows == []
    assert again.number == 11


def test_what_was_written_but_not_committed_at_a_look_is_sent_at_the_next(postgresql_url: str) -> None:
    """Its transaction is older than some that the first look saw."""
    store, other = Store(Database(postgresql_url)), Database(postgresql_url)
    store.limits.declare([Limits(name=name) for name in _NAMES[:3]])
    with other.transaction() as connection:
        connection.execute(update(downstreams).where(downstreams.c.name == _NAMES[0]).values(failures=7))
        store.limits.change(_NAMES[1], {}, paused=True)
        first = store.lane_rows.read(dict.fromkeys(_NAMES[:3]), since=None)
        all_first = store.lane_rows.read_all(since=None)
        store.limits.change(_NAMES[2], {}, paused=True)

    again = store.lane_rows.read(rows_of(first), since=first.version)
    all_again = store.lane_rows.read_all(since=all_first.version)

    for found in (again, all_again):
        assert {row.name: row.downstream(found.now).failures for row in found.rows}[_NAMES[0]] == 7
        assert _NAMES[2] in {row.name for row in found.rows}
    other.close()
    store.database.close()


@pytest.mark.usefixtures("never_fresh")
def test_lanes_that_were_asked_for_lately_are_read_together(store: Store, lanes: LaneCache) -> None:
    """A look is one statement for their rows and one for the workers, however many they are."""
    for name in _NAMES:
        assert lanes.view(name)
    store.limits.change(_NAMES[3], {}, paused=True)

    with asked(store.database) as cost:
        lanes.view(_NAMES[0])

    assert len(cost.statements) == 2
    copy = lanes._copies.get(_NAMES[3])
    assert copy
    assert copy.row
    assert copy.row.downstream(copy.look.now).paused


def test_a_lane_that_was_not_asked_for_lately_is_read_by_itself(store: Store, lanes: LaneCache) -> None:
    """One statement between two looks; and none for one that was."""
    assert lanes.view(_NAMES[0])

    with asked(store.database) as cost:
        assert lanes.view(_NAMES[1])
        assert lanes.view(_NAMES[1])
        assert lanes.view(_NAMES[0])

    assert len(cost.statements) == 1


@pytest.mark.usefixtures("never_fresh")
@pytest.mark.parametrize("everything", [False, True], ids=["one", "all"])
def test_a_lane_comes_changes_and_goes(store: Store, lanes: LaneCache, everything: bool) -> None:
    """As each look sees it, whether one lane is asked for or all."""

    def view() -> tuple[int | None, datetime] | None:
        found = lanes.views().get("new") if everything else lanes.view("new")
        return (found.downstream.limits.concurrency, found.downstream.seen_at) if found else None

    assert view() is None
    store.limits.declare([Limits(name="new", concurrency=1)])
    first = view()
    store.limits.change("new", {"concurrency": 2}, paused=None)
    second = view()
    third = view()
    store.database.execute(delete(downstreams).where(downstreams.c.name == "new"))

    assert view() is None
    assert first
    assert second
    assert third
    assert (first[0], second[0], third[0]) == (1, 2, 2)
    assert first[1] < second[1] < third[1], "what did not change is as of now, too"


@pytest.mark.usefixtures("never_fresh")
def test_now_and_then_everything_is_read_anew(store: Store, lanes: LaneCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind its address there may be another server, whose transactions have other numbers."""
    seen: list[int] = []
    read = store.lane_rows.read

    def counted(*args: Any, **values: Any) -> LaneRows:
        found = read(*args, **values)
        seen.append(len(found.rows))
        return found

    monkeypatch.setattr(store.lane_rows, "read", counted)
    lanes.view(_NAMES[0])
    lanes.view(_NAMES[0])
    monkeypatch.setattr(lane_copies, "_ANEW_SECONDS", -1.0)
    lanes.view(_NAMES[0])

    assert seen == [1, 0, 1]


def test_the_places_taken_in_all_lanes_are_those_of_now(store: Store, lanes: LaneCache) -> None:
    """Not those of the lanes that this process looks at, and not those of a sample."""
    for name in _NAMES[:2]:
        open_lane(store, name)
        submit(store, lane=name)
        release_one(store)

    view = lanes.view(_NAMES[5], fresh=True)

    assert view
    assert view.held_in_all == 2


def test_an_idle_lane_is_not_sampled(store: Store, lanes: LaneCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside one that has a backlog; rows of the others are not even read."""
    submit(store, lane=_NAMES[0])
    store.samples.sample()
    store.database.execute(text("UPDATE samples SET taken_at = taken_at - 1000000"))
    looked: list[int] = []
    latest = store.samples.latest

    def counted(*names: Any) -> list[Sample]:
        found = latest(*names)
        looked.append(len(found))
        return found

    monkeypatch.setattr(store.samples, "latest", counted)
    assert store.samples.sample() == 1
    assert looked == [1]


def test_a_backlog_that_another_scheduler_sampled_last_is_not_told_for_long(
    store: Store, lanes: LaneCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a scheduler that was killed before it saw that the lane is empty."""
    store.samples.sample()
    submit(store, lane=_NAMES[0])
    Store(store.database).samples.sample()
    open_lane(store, _NAMES[0])
    release_one(store)
    submit(store, lane=_NAMES[1])
    store.database.execute(text("UPDATE samples SET taken_at = taken_at - 1000000"))

    monkeypatch.setattr(samples, "_ALL_SECONDS", -1.0)
    store.samples.sample()

    assert {sample.downstream: sample.backlog for sample in store.samples.latest() if sample.backlog} == {_NAMES[1]: 1}


@pytest.mark.usefixtures("never_fresh")
def test_looks_that_take_long_come_less_often(store: Store, lanes: LaneCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """When two in a row did: one may have been held up."""
    monkeypatch.setattr(lane_copies, "_REST", 1e9)
    with asked(store.database) as cost:
        for _ in range(4):
            assert lanes.view(_NAMES[0])

    assert len(cost.statements) == 2 * 2
