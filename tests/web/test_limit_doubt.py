"""A limit that is more than its downstream takes is told where an operator looks: in the document and on the page."""

import pytest
from sqlalchemy import text, update

from tests.support.page import read
from tests.support.web import Web
from tidegate import rate_limit
from tidegate.clock import EPOCH, to_microseconds
from tidegate.database.schema import downstreams, workers
from tidegate.database.statement import required
from tidegate.database.time import CLOCK
from tidegate.dispatch.limiter_row import kept_pace

_REFUSED = """
INSERT INTO attempts (job_id, fence, downstream, queue, released_at, slot_at, place_until, ended_at, outcome)
VALUES (:job, 1, 'sample', 'io', :at, :at, :at, :at, 'refused')
"""
MESSAGE = "refused 9 of 49 calls in the last minute: the limit is lower than declared"


@pytest.fixture
def web(web: Web) -> Web:
    """A call a second in the last 49 s, of which each fifth was refused."""
    web.declare()
    now = to_microseconds(required(web.database.fetch_one(CLOCK)))
    pace = rate_limit.Pace()
    for ago in range(49, 0, -1):
        at = now - ago * 1_000_000
        _, pace = rate_limit.take_slots(rate_limit.Allowance(), pace, now=at, wanted=1, horizon=0)
        if ago % 5 == 0:
            web.database.execute(text(_REFUSED), {"job": f"{ago:032x}", "at": at})
    kept = kept_pace("sample", pace)["its_pace"]
    web.database.execute(update(downstreams).where(downstreams.c.name == "sample").values(pace=kept))
    return web


def test_the_document_says_what_was_refused(web: Web) -> None:
    document = web.client.get("/v1/downstreams/sample").get_json()
    # On a busy machine another one may stand beside it: how well the clock is known.
    warnings = [each for each in document["warnings"] if each["code"] != "jitter_too_small"]
    assert warnings == [{"code": "limit_too_high", "message": MESSAGE}]
    listed = {each["name"]: each for each in web.client.get("/v1/downstreams").get_json()["downstreams"]}
    assert listed["sample"]["warnings"] == document["warnings"]
    assert listed["echo"]["warnings"] == []


def test_the_page_says_so_on_the_card_of_the_lane_alone(web: Web) -> None:
    shown = read(web)
    assert shown.count("efused 9 of 49 calls in the last minute: the limit is lower than declared") == 1
    assert web.client.get("/").get_data(as_text=True).count('id="doubt-sample"') == 1


def test_it_is_over_a_minute_after_the_last_refusal(web: Web) -> None:
    web.database.execute(text("UPDATE attempts SET ended_at = ended_at - 60000000"))
    assert web.client.get("/v1/downstreams/sample").get_json()["warnings"] == []
    assert "lower than declared" not in read(web)


def test_a_worker_that_does_not_know_the_time_well_is_told_with_the_jitter_that_would_do(web: Web) -> None:
    """Where a rate is declared, and only while it lives."""
    web.database.execute(update(workers).values(clock_error=25_000))
    documents = {each["name"]: each for each in web.client.get("/v1/downstreams").get_json()["downstreams"]}
    warning = documents["sample"]["warnings"][-1]
    assert warning["code"] == "jitter_too_small"
    assert "to 25 ms only" in warning["message"]
    assert 'a jitter of "30ms"' in warning["message"]
    assert documents["echo"]["warnings"] == []

    web.database.execute(update(downstreams).values(jitter=30_000))
    assert "jitter_too_small" not in {each["code"] for each in _warnings(web)}
    web.database.execute(update(downstreams).values(jitter=29_000))
    assert "jitter_too_small" in {each["code"] for each in _warnings(web)}
    web.database.execute(update(workers).values(seen_until=EPOCH))
    assert "jitter_too_small" not in {each["code"] for each in _warnings(web)}


def _warnings(web: Web) -> list[dict[str, str]]:
    warnings: list[dict[str, str]] = web.client.get("/v1/downstreams/sample").get_json()["warnings"]
    return warnings
