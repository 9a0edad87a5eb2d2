"""Downstreams over HTTP: what each may get, an operator's changes of that, and that they hold at once and for good."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import update
from werkzeug.test import TestResponse

from tests.support.jobs import know_call_seconds
from tests.support.waiting import wait_until
from tests.support.web import LEASE, Web, assert_is_problem
from tidegate import clock
from tidegate.clock import to_microseconds
from tidegate.database.schema import downstreams
from tidegate.database.time import database_now
from tidegate.dispatch.gate import Gate
from tidegate.operations.limits import Limits
from webapp.app import create_app

FILE = {"rate": ["20/s", "10000/d"], "burst": 2, "concurrency": 4, "breaker": 10, "jitter": 0.0}


@pytest.fixture
def web(web: Web) -> Web:
    """The face, after the scheduler's start."""
    web.store.limits.declare(web.app.extensions["tidegate"].registry.downstreams.values())
    web.store.heartbeats.beat("io-1", queue="io", size=100, until=LEASE)
    return web


def patch(web: Web, name: str = "sample", **change: Any) -> TestResponse:
    """Changes a downstream."""
    return web.client.patch(f"/v1/downstreams/{name}", json=change)


def changed(web: Web, name: str = "sample", **change: Any) -> dict[str, Any]:
    """The document after a change that is taken."""
    answer = patch(web, name, **change)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    document: dict[str, Any] = answer.get_json()
    assert document == web.client.get(f"/v1/downstreams/{name}").get_json()
    return document


def limits(document: dict[str, Any]) -> dict[str, Any]:
    """What holds now."""
    return {name: document[name] for name in FILE}


def release(web: Web) -> int:
    """How many jobs the gate lets go now."""
    return len(Gate(web.store.lanes).run_once().released)


def write(web: Web, **values: Any) -> None:
    """What calls would have done to the row."""
    web.database.execute(update(downstreams).where(downstreams.c.name == "sample").values(**values))


def test_a_downstream_is_told_whole(web: Web) -> None:
    document = web.client.get("/v1/downstreams/sample").get_json()
    assert document == {
        "name": "sample",
        **FILE,
        "paused": False,
        "resting_until": None,
        "resting_because": None,
        "announced": [],
        "breaker_open": False,
        "failures_in_a_row": 0,
        "declared": FILE,
        "changed": [],
        "backlog": 0,
        "in_flight": 0,
        "released_per_second": 0.0,
        "released": 0,
        "jobs_per_call": 1.0,
        "warnings": [],
        "links": {"self": "http://localhost/v1/downstreams/sample"},
    }
    listed = web.client.get("/v1/downstreams").get_json()["downstreams"]
    assert document in listed
    assert {each["name"] for each in listed} >= {"sample", "echo", "sleepy_io"}


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({"rate": "50/s"}, {"rate": ["50/s"]}),
        ({"rate": ["10/s", "600/m"]}, {"rate": ["10/s", "600/m"]}),
        ({"rate": "unlimited"}, {"rate": []}),
        ({"rate": []}, {"rate": []}),
        ({"burst": 100_000}, {"burst": 100_000}),
        ({"concurrency": 1}, {"concurrency": 1}),
        ({"concurrency": "unlimited"}, {"concurrency": None}),
        ({"breaker": 0}, {"breaker": 0}),
        ({"rate": "1/d", "burst": 1, "concurrency": 9, "breaker": 3}, {}),
    ],
)
def test_each_limit_can_be_changed_and_null_takes_it_back(
    web: Web, change: dict[str, Any], holds: dict[str, Any]
) -> None:
    document = changed(web, **change)
    expected = holds or {**change, "rate": [change["rate"]]}
    assert limits(document) == {**FILE, **expected}
    assert document["declared"] == FILE
    assert document["changed"] == sorted(change)

    nothing: dict[str, Any] = dict.fromkeys(change)
    back = changed(web, **nothing)

    assert (limits(back), back["changed"]) == (FILE, [])


def test_an_empty_change_changes_nothing(web: Web) -> None:
    before = web.client.get("/v1/downstreams/sample").get_json()
    assert changed(web) == before


def test_changes_add_up(web: Web) -> None:
    changed(web, burst=7)
    document = changed(web, concurrency=3)
    assert (document["burst"], document["concurrency"], document["changed"]) == (7, 3, ["burst", "concurrency"])


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"rate": "0/s"}, "/rate"),
        ({"rate": "fast"}, "/rate"),
        ({"rate": ["50/s", "-1/s"]}, "/rate/1"),
        ({"rate": 50}, "/rate"),
        ({"rate": [50]}, "/rate/0"),
        ({"rate": ["1/s"] * 6}, "/rate"),
        ({"burst": 0}, "/burst"),
        ({"burst": "5"}, "/burst"),
        ({"burst": 1.5}, "/burst"),
        ({"burst": True}, "/burst"),
        ({"concurrency": 0}, "/concurrency"),
        ({"concurrency": -1}, "/concurrency"),
        ({"concurrency": "many"}, "/concurrency"),
        ({"concurrency": 10**9}, "/concurrency"),
        ({"breaker": -1}, "/breaker"),
        ({"paused": "yes"}, "/paused"),
        ({"paused": 1}, "/paused"),
        ({"name": "other"}, "/name"),
        ({"released": 0}, "/released"),
    ],
)
def test_a_value_that_can_not_be_is_a_422_that_points_at_it(web: Web, change: dict[str, Any], pointer: str) -> None:
    answer = web.client.patch("/v1/downstreams/sample", json={"burst": 9, **change})
    document = assert_is_problem(answer, 422, "invalid-input")
    pointers = [fault["pointer"] for fault in document["errors"]]
    assert pointers == [pointer]
    assert limits(web.client.get("/v1/downstreams/sample").get_json()) == FILE


def test_what_is_no_merge_patch_is_refused(web: Web) -> None:
    url = "/v1/downstreams/sample"
    assert_is_problem(web.client.patch(url, data=b"{}", content_type="text/plain"), 415, "unsupported-media-type")
    assert_is_problem(web.client.patch(url, data=b"{", content_type="application/json"), 400, "malformed-body")
    assert_is_problem(web.client.patch(url, json=[]), 422, "invalid-input")
    merge = web.client.patch(url, data=b'{"burst":3}', content_type="application/merge-patch+json")
    assert (merge.status_code, merge.get_json()["burst"]) == (200, 3)


@pytest.mark.parametrize("name", ["nothing", "Sample", "%00", "a%00b", "\u00fc", "x" * 3000])
def test_an_unknown_downstream_is_a_404(web: Web, name: str) -> None:
    assert_is_problem(web.client.get(f"/v1/downstreams/{name}"), 404, "unknown-downstream")
    assert_is_problem(patch(web, name, burst=2), 404, "unknown-downstream")


def test_a_change_outlives_the_process_and_a_changed_file(web: Web, tmp_path: Path) -> None:
    changed(web, burst=9, paused=True)
    web.store.limits.declare([Limits(name="sample", rates=("5/s",), burst=3, concurrency=None)])

    fresh = create_app(web.settings)
    document = fresh.test_client().get("/v1/downstreams/sample").get_json()
    fresh.extensions["tidegate"].store.database.close()

    assert limits(document) == {"rate": ["5/s"], "burst": 9, "concurrency": None, "breaker": 10, "jitter": 0.0}
    assert document["declared"] == {"rate": ["5/s"], "burst": 3, "concurrency": None, "breaker": 10, "jitter": 0.0}
    assert (document["changed"], document["paused"]) == (["burst"], True)
    assert changed(web, burst=None)["burst"] == 3


def test_from_one_an_hour_to_fifty_a_second_within_two_seconds(web: Web) -> None:
    changed(web, rate="unlimited", burst=1, concurrency="unlimited")
    for _ in range(30):
        web.accepted("quote")
    changed(web, rate="1/h")
    assert release(web) == 1
    assert release(web) == 0

    changed(web, rate="50/s")

    # Slots that were promised under the old rate lie up to a second ahead; the new pace begins after them.
    wait_until(lambda: release(web), description="the new rate holds", timeout_seconds=2)
    changed(web, rate="unlimited")
    assert release(web) >= 20


def test_a_lower_concurrency_holds_at_the_next_release(web: Web) -> None:
    changed(web, rate="unlimited", concurrency=1)
    know_call_seconds(web.store, 1.0, "sample")  # too slow for followers
    for _ in range(5):
        web.accepted("quote")
    assert release(web) == 1
    assert web.client.get("/v1/downstreams/sample").get_json()["in_flight"] == 1
    changed(web, concurrency=3)
    assert release(web) == 2


def test_a_paused_downstream_gets_nothing_until_it_is_resumed(web: Web) -> None:
    web.accepted("quote")
    assert changed(web, paused=True)["paused"]
    assert release(web) == 0
    assert not changed(web, paused=False)["paused"]
    assert release(web) == 1
    changed(web, paused=True)
    assert not changed(web, paused=None)["paused"], "null takes a pause back too"


@pytest.mark.both_databases("a rest is an instant of the database, and ended in its row")
def test_to_resume_ends_a_rest_and_closes_the_breaker(web: Web) -> None:
    write(web, failures=10, refusals=2, paused_until=database_now(timedelta(minutes=1)))
    document = web.client.get("/v1/downstreams/sample").get_json()
    assert (document["breaker_open"], document["failures_in_a_row"]) == (True, 10)
    assert document["resting_until"]
    assert document["resting_because"] == "failures"
    assert changed(web, burst=5)["breaker_open"], "another change leaves it open"

    document = changed(web, paused=False)

    assert (document["breaker_open"], document["failures_in_a_row"], document["resting_until"]) == (False, 0, None)


@pytest.mark.both_databases("what was announced is a text in the row, its resets are instants of the database")
def test_a_downstream_tells_why_it_rests_and_what_it_announced(web: Web) -> None:
    def told() -> tuple[Any, ...]:
        document = web.client.get("/v1/downstreams/sample").get_json()
        return document["resting_because"], document["resting_until"], document["announced"]

    write(web, refusals=1, paused_until=database_now(timedelta(seconds=20)))
    assert (told()[0], told()[2]) == ("refusals", [])

    soon, tomorrow = (to_microseconds(clock.now() + wait) for wait in (timedelta(seconds=40), timedelta(days=1)))
    budgets = {"day": [500, tomorrow, 500], "minute": [0, soon, 0], "over": [3, 0, 3]}
    write(web, announced=orjson.dumps(budgets).decode())
    because, until, announced = told()
    assert because == "quota"
    assert [(each["name"], each["left"]) for each in announced] == [("day", 500), ("minute", 0)]
    assert until == announced[1]["resets_at"]
    web.accepted("quote")
    assert release(web) == 0

    assert changed(web, paused=False)["announced"] == [], "to resume is to know that it is back"
    assert told() == (None, None, [])
    assert release(web) == 1


def test_the_figures_are_those_of_the_lane(web: Web) -> None:
    changed(web, rate="unlimited", burst=2, concurrency="unlimited")
    for _ in range(10):
        web.accepted("quote")
    changed(web, rate="2/h")
    release(web)
    web.store.samples.sample()
    document = web.client.get("/v1/downstreams/sample").get_json()
    assert (document["backlog"], document["in_flight"], document["released"]) == (8, 2, 2)
    operation = web.client.get("/v1/operations/quote").get_json()
    assert (operation["downstream"]["rate"], operation["backlog"]) == (["2/h"], 8)
    assert operation["expected_wait"] > 3600
