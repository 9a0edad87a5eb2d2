"""What a lane's sample says about a position, also a sample that caught the lane in between."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tidegate.clock import EPOCH
from tidegate.dispatch.downstream import Downstream
from tidegate.dispatch.forecast import earliest_finish
from tidegate.dispatch.lane_view import LaneView
from tidegate.dispatch.sample import Sample
from tidegate.operations.limits import Limits

LIMITS = Limits(name="lane", rates=("10/s",))
NOW = EPOCH + timedelta(hours=1)


def lane(
    sample: Sample | None, *, released: int = 0, limits: Limits = LIMITS, workers: int | None = None, held: int = 0
) -> LaneView:
    downstream = Downstream(
        name="lane",
        limits=limits,
        declared=limits,
        changes={},
        paused=False,
        paused_until=None,
        refusals=0,
        failures=0,
        released=released,
        next_slot_at=NOW,
        seen_at=NOW,
    )
    sizes = None if workers is None else {"io": workers}
    return LaneView(downstream=downstream, sample=sample, worker_sizes=sizes, held_in_all=held)


def finish(view: LaneView, behind: int) -> datetime | None:
    """When a job that is submitted now, behind so many, would finish."""
    return earliest_finish(view, NOW, behind, queue="io", longest_run=timedelta(minutes=2))


def empty(**more: Any) -> Sample:
    """A sample of a lane in which nothing waits."""
    values = {"backlog": 0, "by_client": {}, "marks": (), "held": 0, "released": 0, "per_second": 3.0, "held_mean": 0.0}
    return Sample(downstream="lane", taken_at=NOW, **{**values, **more})


def test_a_backlog_that_was_gone_before_its_marks_were_read_is_none() -> None:
    """The scheduler counts and marks in two statements; what it counted may be released between them."""
    sample = empty(backlog=3, per_second=10.0, held_mean=1.0)
    assert lane(sample).position_of(NOW) == 0
    assert finish(lane(sample), 0) == NOW + lane(sample).run_time


def test_what_was_submitted_and_released_since_is_not_waited_for() -> None:
    """Else a lane that keeps up would refuse a short job: it has no backlog and a speed measured on next to nothing."""
    keeps_up = lane(empty(released=1000), released=1010)
    assert keeps_up.position_of(NOW, behind=10) == 0
    assert finish(keeps_up, 10) == NOW


def test_a_burst_into_an_idle_lane_is_waited_for() -> None:
    """Whatever was released long before it."""
    assert lane(empty(released=1000), released=1010).position_of(NOW, behind=500) == 490
    assert lane(None, released=1010).position_of(NOW, behind=500) == 500


SLOW = {"per_second": 0.002, "held_mean": 1.0}
NO_RATE = Limits(name="lane", rates=(), concurrency=5)


def test_a_free_place_admits_however_slow_the_lane_was() -> None:
    idle = lane(empty(**SLOW), limits=NO_RATE, workers=100)
    assert [finish(idle, behind) for behind in range(5)] == [NOW] * 5
    behind_one = finish(idle, 6)
    assert behind_one is not None
    assert behind_one > NOW + timedelta(seconds=500), "there is no place for it before another has ended"


def test_only_places_that_are_free_admit() -> None:
    two_run = lane(empty(**SLOW, held=2), limits=NO_RATE, workers=100)
    assert finish(two_run, 2) == NOW
    assert finish(two_run, 4) != NOW
    few_workers = lane(empty(**SLOW), limits=NO_RATE, workers=10, held=8)
    assert finish(few_workers, 1) == NOW
    assert finish(few_workers, 3) != NOW, "other lanes have the workers"
    assert finish(lane(empty(**SLOW), limits=NO_RATE, workers=0), 1) != NOW
    assert finish(lane(empty(**SLOW), limits=Limits(name="lane"), workers=10), 9) == NOW, "a lane without any limit"


def test_a_worker_that_just_came_has_free_places() -> None:
    assert finish(lane(empty(**SLOW), limits=Limits(name="lane"), workers=3), 2) == NOW


def test_what_was_measured_long_ago_refuses_nobody() -> None:
    old = lane(empty(**SLOW, is_old=True), limits=NO_RATE, workers=100)
    assert finish(old, 1000) is None, "can't be told"
    paced = Limits(name="lane", rates=("10/s",), concurrency=1)
    assert lane(empty(per_second=0.01, held_mean=1.0), limits=paced).per_second == 0.01
    assert lane(empty(per_second=0.01, held_mean=1.0, is_old=True), limits=paced).per_second == pytest.approx(9.8, 0.01)


def test_a_run_takes_no_longer_than_an_attempt_may() -> None:
    """However a figure over next to nothing comes out."""
    slow = lane(empty(per_second=0.001, held_mean=2.0), workers=0)
    assert finish(slow, 0) == NOW + timedelta(minutes=2)


def test_places_that_were_full_at_a_faster_rate_do_not_hold_a_slower_one_back() -> None:
    """The rate was changed to 1/s a moment ago: a call that takes 0.3 s needs a third of a place for that."""
    four = Limits(name="lane", rates=("1/s",), concurrency=4)
    was_full = empty(per_second=40.0, held_mean=12.0, backlog=8)
    changed = lane(was_full, limits=four)
    assert not changed.is_full
    assert changed.per_second == changed.allowed_per_second
    assert lane(was_full, limits=Limits(name="lane", rates=("20/s",), concurrency=4)).is_full


def filled(fill: float = 0.0, *, declared: int = 1, **more: Any) -> LaneView:
    """A lane of 10/s whose calls have several jobs."""
    return replace(lane(empty(**more, fill=fill)), declared_fill=declared)


def test_what_waits_goes_by_the_fill() -> None:
    """A hundred jobs in batches of ten are ten calls, not a hundred."""
    ten_calls = lane(empty(), released=0).start_of(NOW, NOW, behind=10)
    assert filled(10.0).start_of(NOW, NOW, behind=100) == ten_calls
    assert filled(declared=10).start_of(NOW, NOW, behind=100) == ten_calls, "what was not measured is as declared"
    assert filled(10.0).start_of(NOW, NOW, behind=109) == ten_calls, "it goes along with nine of them"
    assert filled(10.0, declared=50).start_of(NOW, NOW, behind=100) == ten_calls, "what was measured counts"
    assert filled(10.0).position_of(NOW, behind=100) == 100, "a position is told in jobs"


def test_a_fill_that_was_measured_long_ago_is_as_declared() -> None:
    assert filled(3.0, declared=10, is_old=True).fill == 10
    assert filled(3.0, declared=10).fill == 3
    assert filled(0.5).start_of(NOW, NOW, behind=10) == filled(1.0).start_of(NOW, NOW, behind=20), "halves"


def test_what_went_since_counts_in_jobs() -> None:
    """A call is one release, and takes all of its jobs away from what waits."""
    view = filled(10.0, released=50, companions=450)
    went_since = replace(view.downstream, released=52, companions=468)
    assert replace(view, downstream=went_since).position_of(NOW, behind=100) == 80


def test_the_first_call_takes_as_many_as_fit() -> None:
    """Who goes along in a call that finds a place finds it as well."""
    places = replace(lane(empty(**SLOW), limits=NO_RATE, workers=100), declared_fill=10)
    assert [finish(places, behind) == NOW for behind in (0, 9, 10, 49, 50)] == [True, True, True, True, False]
    paced = replace(lane(empty(), workers=100), declared_fill=10)
    assert [paced.finds_free_place("io", position) for position in (0, 9, 10)] == [True, True, False]


def test_a_quota_is_of_calls() -> None:
    quota = Limits(name="lane", rates=("1000/s", "5/h"))
    single = lane(empty(), limits=quota).start_of(NOW, NOW, behind=4)
    view = replace(lane(empty(), limits=quota), declared_fill=10)
    assert view.start_of(NOW, NOW, behind=49) == single
    next_hour = view.start_of(NOW, NOW, behind=50)
    assert next_hour is not None
    assert next_hour > NOW + timedelta(minutes=59)
