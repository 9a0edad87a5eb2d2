"""What a lane's sample says about a position, also a sample that caught the lane in between."""

from datetime import timedelta

from tidegate.clock import EPOCH
from tidegate.forecast import LaneView, earliest_finish
from tidegate.operations import Limits
from tidegate.store.limits import Downstream
from tidegate.store.samples import Sample

LIMITS = Limits(name="lane", rates=("10/s",))
NOW = EPOCH + timedelta(hours=1)


def lane(sample: Sample) -> LaneView:
    downstream = Downstream(
        name="lane",
        limits=LIMITS,
        declared=LIMITS,
        changes={},
        paused=False,
        paused_until=None,
        refusals=0,
        failures=0,
        released=sample.released,
        next_slot_at=NOW,
        seen_at=NOW,
    )
    return LaneView(downstream=downstream, sample=sample)


def test_a_backlog_that_was_gone_before_its_marks_were_read_is_none() -> None:
    """The steward counts and marks in two statements; what it counted may be released between them."""
    sample = Sample(
        downstream="lane",
        taken_at=NOW,
        backlog=3,
        by_client={},
        marks=(),
        held=0,
        released=0,
        per_second=10.0,
        held_mean=1.0,
    )
    assert lane(sample).position_of(NOW) == 0
    assert earliest_finish(lane(sample), NOW, 0) == NOW + lane(sample).run_time
