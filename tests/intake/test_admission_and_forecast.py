"""What a waiting job is told, which job is not taken at all, and how a lane listens to its downstream."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import insert, update

from tests.support.http_server import HttpServer, respond
from tests.support.jobs import know_call_seconds
from tests.support.web import LEASE, Web, assert_is_problem
from tidegate.database.schema import clients, downstreams, jobs, samples
from tidegate.database.statement import required
from tidegate.database.time import database_now
from tidegate.dispatch.forecast import retry_after_seconds
from tidegate.dispatch.gate import Gate


class Usage(NamedTuple):
    """As `shutil.disk_usage` answers."""

    total: int
    used: int
    free: int


Make = Callable[..., Web]


@pytest.fixture
def make(tmp_path: Path, database_url: str, downstream: HttpServer) -> Iterator[Make]:
    """`make("rate = '50/s'", operation="timeout = '1h'")`: a face with one lane, `call`, and workers for it."""
    faces: list[Web] = []

    def make(limits: str, operation: str = "timeout = '10m'", **settings: Any) -> Web:
        toml = f'[downstreams.call]\n{limits}\n[operations.call]\nurl = "{downstream.url}/"\n{operation}\n'
        faces.append(Web(tmp_path, database_url, operations_toml=toml, **settings))
        web = faces[-1]
        web.store.limits.declare(web.app.extensions["tidegate"].registry.downstreams.values())
        web.store.heartbeats.beat("io-1", queue="io", size=1000, until=LEASE)
        return web

    yield make
    for face in faces:
        face.close()


def fill(web: Web, count: int) -> list[str]:
    """Ids of so many queued jobs; nobody asks whether they can make it."""
    web.store.limits.change("call", {"rates": [], "concurrency": "unlimited"}, paused=None)
    look(web)
    ids: list[str] = []
    for begin in range(0, count, 1000):
        items = [{"input": number} for number in range(begin, min(count, begin + 1000))]
        answers = web.client.post("/v1/operations/call/jobs/bulk", json=items).get_json()["jobs"]
        ids += [answer["job"]["id"] for answer in answers]
    web.store.limits.change("call", {"rates": None, "concurrency": None}, paused=None)
    return ids


def look(web: Web) -> None:
    """The face looks at the lanes now, and not in half a second."""
    web.app.extensions["tidegate"].lanes.views(fresh=True)


def sampled(web: Web) -> None:
    """What the scheduler does once a second, and the face within half a second of it."""
    with web.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE samples SET taken_at = taken_at - 1000000")
    web.store.samples.sample()
    web.let_counts_be_due()
    look(web)


def waiting(web: Web, job_id: str) -> dict[str, Any]:
    """What the job is told."""
    look(web)
    answer = web.read(job_id)
    told: dict[str, Any] = answer.get_json()["waiting"]
    assert told, answer.get_json()
    return told


def instant(text: str) -> datetime:
    """As the documents have it."""
    return datetime.fromisoformat(text).astimezone(UTC)


def lane(web: Web, **values: Any) -> None:
    """Writes the lane's row as calls would have."""
    web.database.execute(update(downstreams).where(downstreams.c.name == "call").values(**values))


def lane_row(web: Web) -> Any:
    """The lane's row."""
    return required(web.database.fetch_one(downstreams.select().where(downstreams.c.name == "call")))


# waiting.reason


def test_behind_the_pace_a_job_waits_for_it(make: Make) -> None:
    web = make("rate = '1/m'")
    ids = fill(web, 3)
    Gate(web.store.lanes).run_once()
    sampled(web)
    assert waiting(web, ids[2])["reason"] == "pace"


def test_behind_full_places_a_job_waits_for_concurrency(make: Make) -> None:
    web = make("concurrency = 1")
    ids = fill(web, 3)
    Gate(web.store.lanes).run_once()
    assert waiting(web, ids[2])["reason"] == "concurrency"
    for _ in range(2):
        sampled(web)
        assert waiting(web, ids[2])["reason"] == "concurrency"


def test_a_lane_with_a_pace_and_full_places_waits_for_concurrency(make: Make) -> None:
    web = make("rate = '1000/s'\nconcurrency = 1")
    ids = fill(web, 3)
    Gate(web.store.lanes).run_once()
    for _ in range(2):
        sampled(web)
    assert waiting(web, ids[2])["reason"] == "concurrency"


def test_each_other_reason_is_told(make: Make) -> None:
    web = make("rate = '1/m'")
    first, second = fill(web, 2)
    sampled(web)

    lane(web, paused=True)
    assert waiting(web, first) == {
        "reason": "paused",
        "in_time": True,
        "position": 0,
        "estimated_start": None,
        "estimated_finish": None,
    }
    lane(web, paused=False, paused_until=database_now(timedelta(seconds=30)))
    told = waiting(web, first)
    assert told["reason"] == "paused"
    assert instant(told["estimated_start"]) > web.store.callers.now() + timedelta(seconds=25)
    lane(web, failures=10)
    assert waiting(web, first)["reason"] == "breaker"
    lane(web, failures=0, paused_until=None)

    web.store.heartbeats.remove("io-1")
    told = waiting(web, first)
    assert (told["reason"], told["estimated_start"]) == ("no_worker", None)
    web.store.heartbeats.beat("io-1", queue="io", size=10, until=LEASE)

    later = {"run_at": database_now(timedelta(seconds=40)), "waits_for": "retry"}
    web.database.execute(update(jobs).where(jobs.c.id == second).values(**later))
    told = waiting(web, second)
    assert told["reason"] == "retry"
    assert instant(told["estimated_start"]) > web.store.callers.now() + timedelta(seconds=35)

    (released,) = Gate(web.store.lanes).run_once().released
    assert released.job_id == first
    assert waiting(web, first)["reason"] == "dispatch"


def test_one_that_runs_or_has_ended_waits_for_nothing(make: Make) -> None:
    web = make("rate = '1/m'")
    job_id = web.accepted("call")
    web.claim(job_id)
    assert web.read(job_id).get_json()["waiting"] is None
    web.client.post(f"/v1/jobs/{web.accepted('call')}/cancel")
    assert web.read(job_id).get_json()["waiting"] is None


def test_a_job_for_later_waits_for_its_instant_and_is_estimated_from_it(make: Make) -> None:
    web = make("rate = '10/s'")
    later = web.store.callers.now() + timedelta(seconds=90)
    told = web.submit("call", headers={"Job-Not-Before": later.isoformat()}).get_json()
    assert told["waiting"]["reason"] == "not_before"
    assert abs(instant(told["waiting"]["estimated_start"]) - later) < timedelta(milliseconds=2)
    sampled(web)
    seen = waiting(web, told["id"])
    assert (seen["reason"], seen["in_time"]) == ("not_before", True)
    assert abs(instant(seen["estimated_start"]) - later) < timedelta(milliseconds=2)
    assert waiting(web, web.accepted("call"))["reason"] == "pace", "one that may go at once"


def test_a_job_for_later_waits_for_its_instant_first_and_for_its_lane_then(make: Make) -> None:
    web = make("rate = '1/m'")
    later = web.store.callers.now() + timedelta(seconds=90)
    job_id = web.accepted("call", Job_Not_Before=later.isoformat())
    lane(web, paused=True)
    web.store.heartbeats.remove("io-1")
    assert waiting(web, job_id)["reason"] == "not_before"
    web.database.execute(update(jobs).where(jobs.c.id == job_id).values(run_at=database_now()))
    assert waiting(web, job_id)["reason"] == "paused", "its instant has come"


def test_a_job_that_a_worker_handed_back_waits_for_no_instant_of_its_caller(make: Make) -> None:
    web = make("rate = '10/s'")
    job_id = web.accepted("call")
    web.store.workers.hand_back(web.claim(job_id), after=timedelta(seconds=30), outcome="handed back")
    sampled(web)
    assert waiting(web, job_id)["reason"] != "not_before"


def test_jobs_of_one_bulk_submit_wait_for_no_instant(make: Make) -> None:
    web = make("rate = '10/s'")
    items = [{"input": number} for number in range(1000)]
    answers = web.client.post("/v1/operations/call/jobs/bulk", json=items).get_json()["jobs"]
    assert {answer["job"]["waiting"]["reason"] for answer in answers} == {"pace"}


# Position, estimates, Retry-After


def test_an_estimate_behind_the_deadline_is_told_as_such(make: Make) -> None:
    web = make("rate = '1/s'", operation="timeout = '60s'\nadmission = false")
    ids = fill(web, 200)
    sampled(web)
    told = {rank: waiting(web, ids[rank]) for rank in (0, 40, 80, 199)}
    assert [each["in_time"] for each in told.values()] == [True, True, False, False]
    deadline = instant(web.read(ids[80]).get_json()["deadline"])
    assert instant(told[80]["estimated_finish"]) > deadline
    listed = web.client.get("/v1/jobs?limit=200").get_json()["jobs"]
    assert {each["id"]: each["waiting"]["in_time"] for each in listed}[ids[199]] is False
    lane(web, paused=True)
    assert waiting(web, ids[199])["in_time"] is True, "nothing is known then"


def test_a_start_in_time_with_an_end_behind_the_deadline_is_not_in_time(make: Make) -> None:
    web = make("concurrency = 1", operation="timeout = '60s'\nadmission = false")
    (job_id,) = fill(web, 1)
    sampled(web)
    with web.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE samples SET per_second = 0.01, held_mean = 1.0 WHERE downstream = 'call'")
    look(web)
    told = waiting(web, job_id)
    assert instant(told["estimated_start"]) < instant(web.read(job_id).get_json()["deadline"])
    assert told["in_time"] is False


def test_positions_and_estimates_of_a_thousand_jobs_at_fifty_a_second(make: Make) -> None:
    web = make("rate = '50/s'\nconcurrency = 500")
    ids = fill(web, 1000)
    sampled(web)
    now = web.store.callers.now()
    for rank in (0, 1, 37, 500, 998, 999):
        told = waiting(web, ids[rank])
        assert abs(told["position"] - rank) <= 1, "also of jobs that came in one request"
        off = instant(told["estimated_start"]) - web.store.callers.now() - timedelta(seconds=rank / 50)
        assert abs(off) < timedelta(seconds=0.5), "a few slots, and the time this test takes"

    # A second apart, as they come over time.
    begin = now - timedelta(seconds=2000)
    with web.database.transaction() as connection:
        for rank, job_id in enumerate(ids):
            at = begin + timedelta(seconds=rank)
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(run_at=at))
    sampled(web)
    for rank in (0, 1, 37, 500, 998, 999):
        told = waiting(web, ids[rank])
        assert abs(told["position"] - rank) <= 1
        off = instant(told["estimated_start"]) - web.store.callers.now() - timedelta(seconds=rank / 50)
        assert abs(off) < timedelta(seconds=0.5), "a few slots, and the time this test takes"

    released = Gate(web.store.lanes).run_once().released
    assert abs(waiting(web, ids[500])["position"] - (500 - len(released))) <= 1, "what went since the sample is gone"


def test_a_poll_is_asked_to_come_when_the_job_may_be_done_with_a_little_jitter(make: Make) -> None:
    web = make("rate = '50/s'\nconcurrency = 500")
    ids = fill(web, 1000)
    now = web.store.callers.now()
    with web.database.transaction() as connection:
        for rank, job_id in enumerate(ids):
            at = now - timedelta(seconds=2000 - rank)
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(run_at=at))
    sampled(web)
    assert {int(web.read(ids[0]).headers["Retry-After"]) for _ in range(20)} == {1}
    last = {int(web.read(ids[-1]).headers["Retry-After"]) for _ in range(60)}
    assert min(last) >= 18
    assert max(last) <= 23
    assert len(last) > 1, "those who came together do not come back together"


def test_retry_after_is_a_second_at_least_and_a_minute_and_what_is_left_at_the_most(make: Make) -> None:
    web = make("rate = '1/h'", operation="timeout = '10h'")
    ids = fill(web, 5)
    sampled(web)
    assert int(web.read(ids[-1]).headers["Retry-After"]) == 60
    gateway = web.app.extensions["tidegate"]
    job = gateway.jobs.get(ids[-1], client_id=None)
    told = gateway.jobs.waiting(job)
    view = gateway.lanes.view("call")
    assert retry_after_seconds(job, told, view, chance=0) == retry_after_seconds(job, told, view, chance=1) == 60
    soon = database_now(timedelta(seconds=3))
    web.database.execute(update(jobs).where(jobs.c.id == ids[-1]).values(deadline=soon))
    assert 1 <= int(web.read(ids[-1]).headers["Retry-After"]) <= 3


# What is not taken


def test_a_job_that_can_not_make_its_deadline_is_refused_with_the_earliest_finish(make: Make) -> None:
    web = make("rate = '1/s'")
    fill(web, 100)
    sampled(web)

    answer = web.submit("call", headers={"Job-Timeout": "10", "Idempotency-Key": "k"})

    document = assert_is_problem(answer, 503, "cannot-finish-in-time")
    finish = instant(document["earliest_finish"])
    assert abs(finish - web.store.callers.now() - timedelta(seconds=100)) < timedelta(seconds=5)
    assert 85 <= int(answer.headers["Retry-After"]) <= 95, "then it would be done in 10 s"
    assert web.count() == 100
    assert web.submit("call", headers={"Job-Timeout": "120", "Idempotency-Key": "k"}).status_code == 202


def test_what_this_process_took_since_the_sample_counts(make: Make) -> None:
    web = make("rate = '1/s'", operation="timeout = '20s'")
    look(web)
    statuses = [web.submit("call").status_code for _ in range(40)]
    assert statuses.count(202) == pytest.approx(21, abs=2)
    assert statuses == sorted(statuses)


def figures(web: Web) -> tuple[float, float]:
    """What is measured of the lane: releases a second, and places taken."""
    (row,) = web.database.fetch_all(samples.select().where(samples.c.downstream == "call"))
    return row.per_second, row.held_mean


def measured(web: Web, per_second: float, held_mean: float, **more: Any) -> None:
    """The lane was measured so, as by its last sample."""
    values = {"per_second": per_second, "held_mean": held_mean, **more}
    web.database.execute(update(samples).where(samples.c.downstream == "call").values(**values))
    look(web)


def test_a_lane_without_a_rate_that_was_slow_admits_to_its_free_places(make: Make) -> None:
    web = make("concurrency = 5")
    fill(web, 1)
    sampled(web)
    assert web.run_released() == 1
    sampled(web)
    measured(web, 0.001, 1.0, taken_at=database_now(timedelta(seconds=-10)), held=5)
    statuses = [web.submit("call").status_code for _ in range(7)]
    assert statuses == [202] * 6 + [503], "five places, one that is next, and then it takes too long"


def test_what_a_lane_was_measured_before_a_long_silence_refuses_nobody(make: Make) -> None:
    web = make("concurrency = 1")
    fill(web, 1)
    sampled(web)
    assert web.run_released() == 1
    sampled(web)
    measured(web, 0.002, 1.0, taken_at=database_now(timedelta(minutes=-2)))
    assert {web.submit("call").status_code for _ in range(20)} == {202}
    sampled(web)
    assert figures(web) == (0.0, 0.0), "it is measured anew"


@pytest.mark.parametrize(
    "held_back_by",
    [
        {"paused": True},
        {"paused_until": database_now(timedelta(minutes=1))},
        {"failures": 10},
        {"name": "call"},  # by nothing but that no worker is there
    ],
)
def test_time_in_which_a_lane_was_held_back_is_not_measured(make: Make, held_back_by: dict[str, Any]) -> None:
    web = make("concurrency = 5")
    fill(web, 50)
    sampled(web)
    measured(web, 4.0, 2.0)
    lane(web, **held_back_by)
    for _ in range(10):
        sampled(web)
    assert figures(web) == (4.0, 2.0)


def test_jobs_that_may_not_go_yet_are_not_waited_for_by_the_measure(make: Make) -> None:
    """Retries after their delays, and jobs for later."""
    web = make("concurrency = 5")
    fill(web, 50)
    sampled(web)
    measured(web, 4.0, 2.0)
    web.database.execute(update(jobs).values(run_at=database_now(timedelta(minutes=5)), waits_for="retry"))
    for _ in range(10):
        sampled(web)
    assert figures(web) == (4.0, 2.0)


def test_a_lane_whose_jobs_could_go_and_do_not_is_measured_as_slow(make: Make) -> None:
    web = make("concurrency = 1")
    fill(web, 50)
    sampled(web)
    Gate(web.store.lanes).run_once()
    sampled(web)
    measured(web, 4.0, 1.0)
    for _ in range(10):
        sampled(web)
    per_second, _ = figures(web)
    assert per_second < 1.0


@pytest.mark.parametrize(
    "held_back_by",
    [
        {"paused": True},
        {"paused": True, "paused_until": database_now(timedelta(seconds=5)), "failures": 10},
        {"paused_until": database_now(timedelta(seconds=5))},
        {"paused_until": database_now(timedelta(seconds=5)), "failures": 10},
    ],
)
@pytest.mark.parametrize("bulk", [False, True])
def test_a_lane_that_is_held_back_takes_what_it_could_do_if_it_went_now(
    make: Make, held_back_by: dict[str, Any], bulk: bool
) -> None:
    web = make("rate = '4/s'", operation="timeout = '50s'")
    lane(web, **held_back_by)
    look(web)
    if bulk:
        items = [{"input": number} for number in range(400)]
        answers = web.client.post("/v1/operations/call/jobs/bulk", json=items).get_json()["jobs"]
        statuses = [answer["status"] for answer in answers]
    else:
        statuses = [web.submit("call").status_code for _ in range(400)]
    assert 175 <= statuses.count(202) <= 202
    assert statuses.count(202) + statuses.count(503) == 400


def test_a_paused_lane_says_so_when_it_refuses(make: Make) -> None:
    web = make("rate = '1/s'", operation="timeout = '5s'")
    lane(web, paused=True)
    look(web)
    answers = [web.submit("call") for _ in range(10)]
    document = assert_is_problem(answers[-1], 503, "cannot-finish-in-time")
    assert document["detail"] == "call is paused, and busy: it would not be done within its 5 seconds"
    assert answers[0].get_json()["waiting"] == {
        "reason": "paused",
        "in_time": True,
        "position": 0,
        "estimated_start": None,
        "estimated_finish": None,
    }


def test_a_rest_until_an_instant_behind_the_deadline_takes_nothing(make: Make) -> None:
    web = make("rate = '100/s'", operation="timeout = '30s'")
    lane(web, paused_until=database_now(timedelta(seconds=60)))
    look(web)
    assert_is_problem(web.submit("call"), 503, "cannot-finish-in-time")


def test_a_spent_daily_quota_takes_nothing_that_ends_before_the_next(make: Make) -> None:
    web = make("rate = ['100/s', '3/d']", operation="timeout = '1h'")
    fill(web, 3)
    Gate(web.store.lanes).run_once()
    sampled(web)
    web.run_released()
    for paused in (False, True):
        lane(web, paused=paused)
        sampled(web)
        if not paused:
            while web.run_released():
                pass
            sampled(web)
        assert_is_problem(web.submit("call"), 503, "cannot-finish-in-time")


def test_without_a_worker_a_lane_takes_what_its_pace_could_do(make: Make) -> None:
    web = make("rate = '4/s'", operation="timeout = '50s'")
    web.store.heartbeats.remove("io-1")
    look(web)
    statuses = [web.submit("call").status_code for _ in range(300)]
    assert 190 <= statuses.count(202) <= 202


def test_without_admission_it_is_taken_all_the_same(make: Make) -> None:
    web = make("rate = '1/h'", operation="timeout = '1m'\nadmission = false")
    statuses = [web.submit("call").status_code for _ in range(5)]
    assert statuses == [202] * 5


def test_a_job_for_later_is_judged_by_then(make: Make) -> None:
    web = make("rate = '1/s'")
    fill(web, 60)
    sampled(web)
    assert web.submit("call", headers={"Job-Timeout": "30"}).status_code == 503
    later = (web.store.callers.now() + timedelta(seconds=60)).isoformat()
    assert web.submit("call", headers={"Job-Timeout": "90", "Job-Not-Before": later}).status_code == 202


def test_a_daily_quota_that_is_not_used_up_holds_nobody_back(make: Make) -> None:
    web = make("rate = ['20/s', '10000/d']")
    statuses = {web.submit("call", headers={"Job-Timeout": "60"}).status_code for _ in range(100)}
    assert statuses == {202}, "a hundred calls are 5 s at 20 a second"


def test_the_backlog_of_a_client_is_bounded_and_no_others_counts(make: Make) -> None:
    web = make("rate = '1000/s'", max_backlog=3)
    ids = [web.accepted("call") for _ in range(3)]
    document = assert_is_problem(web.submit("call"), 429, "backlog-full")
    assert "3 of your jobs" in document["detail"]
    sampled(web)
    answer = web.submit("call")
    assert_is_problem(answer, 429, "backlog-full")
    assert int(answer.headers["Retry-After"]) >= 1
    assert web.submit("echo").status_code == 202, "another lane"

    with web.database.transaction() as connection:
        connection.execute(insert(clients).values(id="other", name="other", created_at=database_now()))
        connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(client_id="other"))
    sampled(web)
    assert web.submit("call").status_code == 202, "another client's jobs"
    gateway = web.app.extensions["tidegate"]
    for job_id in ids:
        gateway.lanes.submitted(gateway.jobs.get(job_id, client_id="other"))
    assert web.submit("call").status_code == 202, "nor those it submitted just now"


def test_a_disk_that_is_full_takes_nothing_new_and_answers_what_is_there(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = make("rate = '1/s'")
    job_id = web.accepted("call", Idempotency_Key="k")
    # The one thing that can't be had without a disk of one's own.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 90, 10))
    web.app.extensions["tidegate"].jobs.admission.disk._looked_at = float("-inf")

    answer = web.submit("call")

    document = assert_is_problem(answer, 503, "unavailable")
    assert "90 %" in document["detail"]
    assert int(answer.headers["Retry-After"]) == 60
    assert web.read(job_id).status_code == 202
    assert web.submit("call", headers={"Idempotency-Key": "k"}).get_json()["id"] == job_id
    assert web.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 89, 11))
    assert web.submit("call").status_code == 503, "looked at every few seconds only"
    web.app.extensions["tidegate"].jobs.admission.disk._looked_at = float("-inf")
    assert web.submit("call").status_code == 202


# The breaker, and pauses that the downstream asks for


def rest_of(web: Web) -> float:
    """Seconds for which the lane still rests."""
    until = lane_row(web).paused_until
    return float((until - web.store.callers.now()).total_seconds()) if until else 0.0


ONCE = "timeout = '10m'\nretry = { attempts = 1 }"


def test_a_run_of_failures_opens_the_breaker_and_one_probe_that_succeeds_closes_it(
    make: Make, downstream: HttpServer
) -> None:
    web = make("breaker = 3\nconcurrency = 1", operation=ONCE)
    know_call_seconds(web.store, 1.0, "call")  # too slow for followers
    downstream.answer = respond(500)
    fill(web, 6)
    for failures in (1, 2, 3):
        assert web.run_released() == 1
        assert lane_row(web).failures == failures
    assert 4 < rest_of(web) <= 5
    assert web.run_released() == 0, "open: nothing goes"
    assert web.client.get("/v1/downstreams/call").get_json()["breaker_open"]

    lane(web, paused_until=database_now(), concurrency=None)
    assert web.run_released() == 1, "a probe, and one only"
    assert lane_row(web).failures == 4
    assert 9 < rest_of(web) <= 10, "a probe that fails makes it rest longer"

    lane(web, paused_until=database_now())
    downstream.answer = respond(200)
    assert web.run_released() == 1
    assert lane_row(web).failures == 0
    assert web.run_released() == 1
    assert len(downstream.received) == 6


@pytest.mark.parametrize("status", [200, 400, 404])
def test_any_answer_that_is_no_failure_ends_the_run(make: Make, downstream: HttpServer, status: int) -> None:
    web = make("breaker = 3\nconcurrency = 1", operation=ONCE)
    know_call_seconds(web.store, 1.0, "call")  # too slow for followers
    fill(web, 5)
    for answer in (500, 500, status, 500, 500):
        downstream.answer = respond(answer)
        assert web.run_released() == 1
    assert lane_row(web).failures == 2
    assert rest_of(web) == 0


def test_a_breaker_of_zero_never_opens(make: Make, downstream: HttpServer) -> None:
    web = make("breaker = 0\nconcurrency = 1", operation=ONCE)
    know_call_seconds(web.store, 1.0, "call")  # too slow for followers
    downstream.answer = respond(500)
    fill(web, 15)
    assert [web.run_released() for _ in range(15)] == [1] * 15
    assert rest_of(web) == 0


@pytest.mark.parametrize("status", [429, 503])
def test_refusals_pause_the_lane_longer_each_time_and_cost_no_attempt(
    make: Make, downstream: HttpServer, status: int
) -> None:
    web = make("concurrency = 1", operation=ONCE)
    downstream.answer = respond(status)
    (job_id,) = fill(web, 1)
    for seconds in (1, 2, 4, 8):
        assert web.run_released() == 1
        assert seconds - 1 < rest_of(web) <= seconds
        row = web.row(job_id)
        assert (row.state, row.attempt) == ("queued", 0)
        assert web.run_released() == 0
        lane(web, paused_until=database_now())
        web.database.execute(update(jobs).values(run_at=database_now()))
    downstream.answer = respond(200)
    assert web.run_released() == 1
    assert (web.row(job_id).state, web.row(job_id).attempt) == ("succeeded", 1)
    assert lane_row(web).refusals == 0


@pytest.mark.parametrize(("asked", "seconds"), [("7", 7), ("100000", 300), ("0", 1), ("soon", 1)])
def test_what_the_downstream_asks_for_is_honoured_up_to_five_minutes(
    make: Make, downstream: HttpServer, asked: str, seconds: int
) -> None:
    web = make("concurrency = 1", operation=ONCE)
    downstream.answer = respond(429, retry_after=asked)
    fill(web, 1)
    web.run_released()
    assert seconds - 1 < rest_of(web) <= seconds


def test_calls_that_were_open_at_a_refusal_and_are_refused_too_are_one_pause(
    make: Make, downstream: HttpServer
) -> None:
    web = make("concurrency = 5", operation=ONCE)
    ids = fill(web, 5)
    released = Gate(web.store.lanes).run_once().released
    claims = [
        web.store.claims.claim(job.job_id, job.fence, worker="io-1", pid=1, lease=LEASE, attempt_timeouts={})
        for job in released
    ]
    for claim in claims:
        assert claim is not None
        assert web.store.workers.refused(claim, {"message": ""}, after=timedelta(seconds=3), call_seconds=None)
    assert lane_row(web).refusals == 1
    assert rest_of(web) <= 3
    assert {web.row(job_id).attempt for job_id in ids} == {0}


def test_a_job_of_a_burst_waits_behind_those_that_came_since_the_last_sample(web: Web) -> None:
    web.store.limits.declare(web.app.extensions["tidegate"].registry.downstreams.values())
    web.accepted("quote")
    sampled(web)
    ids = [web.accepted("quote") for _ in range(20)]

    assert web.read(ids[0]).get_json()["waiting"]["position"] == 1
    assert web.read(ids[-1]).get_json()["waiting"]["position"] == 20
