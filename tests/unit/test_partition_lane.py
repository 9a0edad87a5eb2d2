"""What a partition's share says of its jobs' start, where calls have several jobs."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tests.unit.test_lane_view import NOW, empty, lane
from tidegate.dispatch.lane_view import LaneView
from tidegate.dispatch.partitions.crowd import Crowd
from tidegate.dispatch.partitions.forecast import PartitionCount, PartitionLane, partition_lane
from tidegate.operations.limits import Limits
from tidegate.operations.sharing import PartitionLimits


def of_partition(
    waiting: int, *, among: Crowd | None = None, view: LaneView | None = None, **limits: Any
) -> PartitionLane:
    """A partition with so many jobs, in a lane of 10/s whose calls have ten jobs."""
    count = PartitionCount(now=NOW, number=waiting, among=among)
    view = view or replace(lane(empty()), declared_fill=10)
    return partition_lane(view, count, PartitionLimits(**limits), NOW + timedelta(seconds=1))


def seconds(start: datetime | None) -> float:
    """From now to a start."""
    assert start
    return (start - NOW).total_seconds()


def test_a_turn_is_a_call_of_many_jobs() -> None:
    """Of two that share, 100 jobs each, the last of one has ten calls of its own before it and ten of the other's."""
    alone = of_partition(100)
    assert alone.position_of(NOW) == 100
    assert alone.calls_before(100) == 10
    both = Crowd.of([(1.0, 10.0), (1.0, 10.0)])
    shared = of_partition(100, among=both)
    assert 15 <= shared.calls_before(90) <= 20
    assert 1.7 < seconds(shared.start_of(NOW, NOW)) < 2.2


def test_its_own_rate_and_its_own_places_are_of_calls() -> None:
    by_rate = of_partition(100, rates=("1/s",))
    assert 9.5 < seconds(by_rate.start_of(NOW, NOW)) < 11
    slow = replace(lane(empty(per_second=100.0, held_mean=100.0), limits=Limits(name="lane")), declared_fill=10)
    by_places = of_partition(100, view=slow, concurrency=2)
    assert 4 <= seconds(by_places.start_of(NOW, NOW)) <= 6
    assert not by_places.finds_free_place("io", 20)
