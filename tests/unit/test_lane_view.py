"""What a lane's sample says about a position, also a sample that caught the lane in between."""

from datetime import timedelta
from typing import Any

from tidegate.clock import EPOCH
from tidegate.dispatch.forecast import LaneView, earliest_finish
from tidegate.dispatch.lane import Downstream, Sample
from tidegate.operations.operation import Limits

LIMITS = Limits(name="lane", rates=("10/s",))
NOW = EPOCH + timedelta(hours=1)


def lane(sample: Sample | None, *, released: int = 0) -> LaneView:
    downstream = Downstream(
        name="lane",
        limits=LIMITS,
        declared=LIMITS,
        changes={},
        paused=False,
        paused_until=None,
        refusals=0,
        failures=0,
        released=released,
        next_slot_at=NOW,
        seen_at=NOW,
    )
    return LaneView(downstream=downstream, sample=sample)


def empty(**more: Any) -> Sample:
    """A sample of a lane in which nothing waits."""
    values = {"backlog": 0, "by_client": {}, "marks": (), "held": 0, "released": 0, "per_second": 3.0, "held_mean": 0.0}
    return Sample(downstream="lane", taken_at=NOW, **{**values, **more})


def test_a_backlog_that_was_gone_before_its_marks_were_read_is_none() -> None:
    """The scheduler counts and marks in two statements; what it counted may be released between them."""
    sample = empty(backlog=3, per_second=10.0, held_mean=1.0)
    assert lane(sample).position_of(NOW) == 0
    assert earliest_finish(lane(sample), NOW, 0) == NOW + lane(sample).run_time


def test_what_was_submitted_and_released_since_is_not_waited_for() -> None:
    """Else a lane that keeps up would refuse a short job: it has no backlog and a speed measured on next to nothing."""
    keeps_up = lane(empty(released=1000), released=1010)
    assert keeps_up.position_of(NOW, behind=10) == 0
    assert earliest_finish(keeps_up, NOW, 10) == NOW


def test_a_burst_into_an_idle_lane_is_waited_for() -> None:
    """Whatever was released long before it."""
    assert lane(empty(released=1000), released=1010).position_of(NOW, behind=500) == 490
    assert lane(None, released=1010).position_of(NOW, behind=500) == 500
