"""What web processes know of a lane between two samples: what they submitted, less what went out meanwhile."""

import pytest

from tests.support.jobs import LANE, open_lane, release, submit, time_at
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.stores import Store


@pytest.mark.parametrize(("released", "position"), [(False, 10), (True, 0)], ids=["they wait", "they went"])
def test_what_was_submitted_since_the_sample_goes_before_only_while_it_waits(
    store: Store, released: bool, position: int
) -> None:
    open_lane(store)
    submit(store)
    store.samples.sample()
    assert len(release(store)) == 1
    lanes = LaneCache(store)
    lanes.views(fresh=True)
    for _ in range(10):
        job = store.callers.get(submit(store), IMPLICIT_CLIENT)
        assert job is not None
        lanes.submitted(job)
    if released:
        assert len(release(store)) == 10

    view = lanes.views(fresh=True)[LANE]

    assert view.position_of(time_at(store), lanes.submitted_since(LANE)) == position
