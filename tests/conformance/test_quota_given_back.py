"""A call that was let go and surely not made is no part of a quota; one that may have been made is."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from tests.support.jobs import call_now, change_attempts, claim, downstreams_of, lane_row, open_lane, release, submit
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.database.time import database_now
from tidegate.jobs.job import Released
from tidegate.maintenance.sweep import sweep
from tidegate.stores import Store

QUOTA = 5
RATES = ("1000/s", f"{QUOTA}/d")
OVER = database_now(-timedelta(seconds=1))


def let_go(store: Store, number: int = QUOTA) -> Sequence[Released]:
    """So many jobs of a lane with a quota of five a day, as far as they may go."""
    for _ in range(number):
        submit(store)
    return release(store)


def lose_messages(store: Store, released: Sequence[Released]) -> None:
    for each in released:
        change_attempts(store, each.job_id, place_until=OVER)
    sweep(store.upkeep, retention=timedelta(days=1))


def cancel(store: Store, released: Sequence[Released]) -> None:
    for each in released:
        store.callers.cancel(each.job_id, IMPLICIT_CLIENT)
        assert claim(store, each) is None


def give_claims_up(store: Store, released: Sequence[Released]) -> None:
    for each in released:
        assert not store.claims.disclaim(each.job_id, each.fence, worker="mine")


@pytest.mark.parametrize(
    "take_back", [lose_messages, cancel, give_claims_up, lambda store, released: store.lanes.take_back(released)]
)
def test_what_nobody_claimed_is_given_back_and_no_more(
    store: Store, take_back: Callable[[Store, Sequence[Released]], None]
) -> None:
    open_lane(store, rates=RATES)
    first = let_go(store)
    assert len(first) == QUOTA
    assert let_go(store) == []

    take_back(store, first)
    take_back(store, [])

    second = release(store)
    assert len(second) == QUOTA
    assert all(claim(store, each) for each in second)
    assert let_go(store) == []


def test_a_quota_that_is_the_only_rate_gets_back_what_nobody_claimed(store: Store) -> None:
    """As far as its burst goes: the schedule that spaces the calls gives nothing back."""
    open_lane(store, rates=RATES[1:], burst=10 * QUOTA)
    first = let_go(store)
    assert len(first) == QUOTA
    assert let_go(store) == []

    store.lanes.take_back(first[:3])

    assert len(release(store)) == 3


def test_what_was_claimed_and_perhaps_called_is_not_given_back(store: Store) -> None:
    open_lane(store, rates=RATES)
    for each in let_go(store):
        claimed = claim(store, each)
        assert claimed is not None
        store.lanes.take_back([each])
        store.workers.hand_back(claimed, after=timedelta(0), outcome="stopped", call_seconds=0.1)

    assert release(store) == []


def test_what_was_claimed_and_surely_not_called_is_given_back_once(store: Store) -> None:
    open_lane(store, rates=RATES)
    for each in let_go(store)[:2]:
        claimed = claim(store, each)
        assert claimed is not None
        for _ in range(2):  # the answer of the first was lost
            store.workers.hand_back(claimed, after=timedelta(0), outcome="no slot")

    assert len(release(store)) == 2
    assert let_go(store) == []


def test_a_claim_whose_answer_was_lost_gives_its_call_back(store: Store) -> None:
    open_lane(store, rates=RATES)
    for each in let_go(store)[:3]:
        assert claim(store, each, worker="mine") is not None
        for _ in range(2):
            store.claims.disclaim(each.job_id, each.fence, worker="mine")

    assert len(release(store)) == 3
    assert let_go(store) == []


def test_a_missed_slot_is_given_back_with_its_job_and_once(store: Store) -> None:
    """Both calls have the same instant: what was returned twice would be the other's."""
    open_lane(store, rates=("2/h",), burst=2)
    first, _ = let_go(store, 2)
    claimed = claim(store, first)
    assert claimed is not None
    call_now(store)

    for _ in range(2):
        assert store.slots.reserve(claimed, within=timedelta(seconds=1)).due is None
    assert calls_logged(store) == 3
    store.workers.hand_back(claimed, after=timedelta(0), outcome="no slot")

    assert calls_logged(store) == 2


def calls_logged(store: Store) -> int:
    (lane,) = downstreams_of(store)
    return sum(run.calls for run in lane.pace.log)


@pytest.mark.parametrize("rates", [RATES[:1], ()])
def test_a_release_of_before_the_quota_counts_and_is_given_back(store: Store, rates: tuple[str, ...]) -> None:
    open_lane(store, rates=rates)
    before = let_go(store, 3)
    assert len(before) == 3
    store.limits.change("lane", {"rates": list(RATES)}, paused=None)
    after = let_go(store)
    assert len(after) == QUOTA - len(before)

    store.lanes.take_back(before)

    assert len(release(store)) == len(before)
    assert release(store) == []


def test_a_quota_that_is_taken_away_and_comes_back_counts_what_went_out_meanwhile(store: Store) -> None:
    open_lane(store, rates=RATES)
    assert len(let_go(store, QUOTA - 2)) == QUOTA - 2
    for rates, more in (((), 1), (RATES[:1], 1)):
        store.limits.change("lane", {"rates": list(rates)}, paused=None)
        assert len(let_go(store, more)) == more

    store.limits.change("lane", {"rates": list(RATES)}, paused=None)

    assert let_go(store) == []


def test_what_is_given_back_is_not_counted_as_released(store: Store) -> None:
    """The count of releases only rises: who reads it takes differences."""
    open_lane(store, rates=RATES)
    first = let_go(store)

    store.lanes.take_back(first)

    assert lane_row(store).released == QUOTA
