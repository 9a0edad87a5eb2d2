"""What jobs of a shared downstream are told, and which are not taken: by their own partition and its share."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from tests.support.web import LEASE, Web, assert_is_problem
from tidegate.database.schema import IMPLICIT_CLIENT, partitions
from tidegate.database.time import database_now
from tidegate.intake.submission import Submission
from tidegate.jobs.job import Job
from tidegate.operations.operation import Body

Make = Callable[..., Web]
REST = timedelta(seconds=40)


@pytest.fixture
def make(tmp_path: Path, database_url: str) -> Iterator[Make]:
    """`make("rate = '50/s'")`: a face with one lane, `call`, shared by names, and workers for it."""
    faces: list[Web] = []

    def make(limits: str, **settings: Any) -> Web:
        toml = f'[downstreams.call]\npartition = "header"\n{limits}\n[operations.call]\nurl = "http://127.0.0.1:9/"\n'
        faces.append(Web(tmp_path, database_url, operations_toml=f"{toml}timeout = '10m'\n", **settings))
        web = faces[-1]
        web.store.limits.declare(web.app.extensions["tidegate"].registry.downstreams.values())
        web.store.heartbeats.beat("io-1", queue="io", size=1000, until=LEASE)
        return web

    yield make
    for face in faces:
        face.close()


def bulk(web: Web, name: str, count: int) -> list[Job]:
    """So many jobs of a partition in one request; those that were taken."""
    asked = [
        Submission(
            operation="call",
            body=Body(content=b"1", content_type="application/json"),
            client_id=IMPLICIT_CLIENT,
            partition=name,
        )
        for _ in range(count)
    ]
    return [answer for answer in web.app.extensions["tidegate"].jobs.submit_each(asked) if isinstance(answer, Job)]


def sampled(web: Web) -> None:
    web.store.samples.sample()
    web.app.extensions["tidegate"].lanes.views(fresh=True)


def told(web: Web, name: str, **headers: str) -> Any:
    return web.submit("call", headers={"Job-Partition": name, **headers}).get_json()["waiting"]


def test_the_backlog_of_a_partition_is_bounded_and_no_others_counts(make: Make) -> None:
    web = make("concurrency = 9\neach = { max_backlog = 3 }\n[downstreams.call.partitions.big]\nmax_backlog = 5")
    assert [web.submit("call", headers={"Job-Partition": "a"}).status_code for _ in range(5)] == [202] * 3 + [429] * 2
    document = assert_is_problem(web.submit("call", headers={"Job-Partition": "a"}), 429, "backlog-full")
    assert "3 jobs of this partition" in document["detail"]
    assert [web.submit("call", headers={"Job-Partition": "big"}).status_code for _ in range(6)] == [202] * 5 + [429]
    assert web.submit("call").status_code == 202
    assert len(bulk(web, "b", 7)) == 3


def test_the_gateways_own_bound_holds_for_a_partition_that_has_none(make: Make) -> None:
    web = make("concurrency = 9", max_backlog=2)
    statuses = [web.submit("call", headers={"Job-Partition": name}).status_code for name in "aababb"]
    assert statuses == [202, 202, 202, 429, 202, 429]


def test_a_client_has_so_many_partitions_and_no_more(make: Make) -> None:
    web = make("concurrency = 9\nmax_partitions = 3")
    statuses = [web.submit("call", headers={"Job-Partition": name}).status_code for name in "abcdabe"]
    assert statuses == [202, 202, 202, 429, 202, 202, 429]
    answer = web.submit("call", headers={"Job-Partition": "d"})
    assert_is_problem(answer, 429, "too-many-partitions")
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_position_is_of_its_own_partition_and_the_start_by_its_share(make: Make) -> None:
    web = make("rate = '1/s'")
    bulk(web, "loud", 100)
    sampled(web)
    quiet = told(web, "quiet")
    assert (quiet["position"], quiet["reason"]) == (0, "share")
    loud = told(web, "loud")
    assert (loud["position"], loud["reason"]) == (100, "pace")


def test_a_priority_overtakes_in_its_partition(make: Make) -> None:
    web = make("rate = '1/s'")
    bulk(web, "a", 10)
    assert (
        web.submit("call", headers={"Job-Partition": "a", "Job-Priority": "0"}).get_json()["waiting"]["position"] == 0
    )
    assert (
        web.submit("call", headers={"Job-Partition": "a", "Job-Priority": "1"}).get_json()["waiting"]["position"] == 1
    )
    assert web.submit("call", headers={"Job-Partition": "a"}).get_json()["waiting"]["position"] == 12


def test_a_job_is_refused_by_the_time_of_its_own_turn(make: Make) -> None:
    web = make("rate = '1/s'")
    bulk(web, "loud", 100)
    sampled(web)
    late = {"Job-Timeout": "30"}
    assert web.submit("call", headers={"Job-Partition": "quiet", **late}).status_code == 202
    assert_is_problem(web.submit("call", headers={"Job-Partition": "loud", **late}), 503, "cannot-finish-in-time")


def test_a_partitions_own_limits_are_its_reasons(make: Make) -> None:
    web = make("each = { rate = '1/s' }\n[downstreams.call.partitions.strict]\norder = 'strict'")
    bulk(web, "a", 3)
    waiting = told(web, "a")
    assert (waiting["position"], waiting["reason"]) == (3, "partition_pace")
    bulk(web, "strict", 2)
    waiting = told(web, "strict")
    assert (waiting["position"], waiting["reason"]) == (2, "partition_order")


def test_jobs_of_a_partition_that_rests_are_told_so_and_no_others(make: Make) -> None:
    web = make("rate = '10/s'\nthrottle = 'partition'")
    row = {"downstream": "call", "client": IMPLICIT_CLIENT, "name": "a", "rests_until": database_now(REST)}
    web.store.database.execute(insert(partitions).values(row))
    resting = bulk(web, "a", 1)[0]
    sampled(web)

    waiting = told(web, "a")

    seconds = datetime.fromisoformat(waiting["estimated_start"]) - datetime.now(UTC)
    assert (waiting["position"], waiting["reason"], waiting["in_time"]) == (1, "paused", True)
    assert 0.9 * REST < seconds < 1.1 * REST
    answer = web.client.get(f"/v1/jobs/{resting.id}")
    assert 35 < int(answer.headers["Retry-After"]) <= 44
    late = web.submit("call", headers={"Job-Partition": "a", "Job-Timeout": "20"})
    assert_is_problem(late, 503, "cannot-finish-in-time")
    assert web.submit("call", headers={"Job-Partition": "b", "Job-Timeout": "20"}).status_code == 202
    other = told(web, "b")
    assert other["reason"] != "paused"
    (listed, _) = web.client.get("/v1/downstreams/call/partitions?sort=name").get_json()["partitions"]
    assert (listed["name"], listed["resting_because"], listed["share"]) == ("a", "refusals", None)
    assert listed["resting_until"]


def test_a_priority_in_a_strict_partition_is_a_422(make: Make) -> None:
    web = make("each = { order = 'strict' }")
    assert_is_problem(web.submit("call", headers={"Job-Priority": "0"}), 422, "no-priorities")
    assert web.submit("call").status_code == 202
