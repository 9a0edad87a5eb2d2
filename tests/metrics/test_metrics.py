"""/metrics: true for the whole cluster whichever process answers, bounded in what it asks, readable for Prometheus."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import JsonValue
from sqlalchemy import insert
from sqlalchemy.engine import make_url

from tests.support.http_server import HttpServer, respond
from tests.support.jobs import (
    LANE,
    change_job,
    change_lane,
    lose_lease,
    open_lane,
    release_one,
    running,
    submit,
)
from tests.support.operations import echo
from tests.support.promtool import promtool
from tests.support.proxy import Proxy
from tests.support.running import run_one, runner_of
from tests.support.scrape import Scrape, write_counts
from tests.support.statements import asked
from tests.support.web import Web
from tests.support.webhooks import ended_job, open_senders, send_due
from tidegate import clock
from tidegate.database.schema import counts, jobs
from tidegate.database.time import database_now
from tidegate.errors import PermanentError
from tidegate.maintenance.sweep import sweep
from tidegate.metrics.families import CALLS, FAMILIES
from tidegate.operations.operation import Attempt
from tidegate.operations.python_operation import operation
from tidegate.states import State
from tidegate.stores import Store
from tidegate.webhooks.delivery import OUTCOMES

on_both = pytest.mark.both_databases("figures are counted and added up by SQL")

RETENTION = timedelta(days=1)


def scrape(web: Web) -> Scrape:
    """What Prometheus gets."""
    answer = web.client.get("/metrics")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    return Scrape(answer.get_data(as_text=True))


def returning(params: JsonValue) -> JsonValue:
    """An operation that succeeds."""
    return params


def live_a_little(store: Store, receiver: HttpServer, secret: str) -> None:
    """Something of everything that is counted by others than the web server."""
    open_lane(store, "idle", rates=("10/s", "1000/d"), concurrency=3)
    run_one(store, returning)
    assert secret
    open_senders(store)
    ended_job(store, receiver.url)
    send_due(store)
    lost = running(store)
    lose_lease(store, lost.job_id)
    sweep(store.upkeep, retention=RETENTION)
    store.facts.count_final()
    store.facts.beat_scheduler("one", until=timedelta(minutes=1))
    write_counts(store)


def test_promtool_finds_nothing_to_mend(web: Web, receiver: HttpServer, secret: str) -> None:
    live_a_little(web.store, receiver, secret)
    web.submit("nothing")
    for state in State:
        web.job_in(state)

    found = scrape(web)

    assert promtool("check", "metrics", text=found.text) == ""
    told = {family.name for family in found.families}
    assert {family.name.removesuffix("_total") for family in FAMILIES} <= told
    names = {name for family in found.families for sample in family.samples for name in sample.labels}
    assert names <= {
        *("operation", "downstream", "queue", "state", "reason", "result", "outcome", "action", "rate", "by", "le")
    }, "no label has a value for each client or job"


@on_both
def test_what_several_processes_count_is_added_up_and_stays(tmp_path: Path, database_url: str) -> None:
    faces = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        faces.append(Web(tmp_path / str(number), database_url))
    first, second = faces
    for _ in range(3):
        first.accepted()
    second.accepted()
    second.accepted(Idempotency_Key="k")
    first.accepted(Idempotency_Key="k")
    assert second.submit("nothing").status_code == 404
    assert second.submit(content_type="text/csv").status_code == 415
    scrape(first)  # each writes its own before it answers, and all others every two seconds

    found = scrape(second)

    assert found.value("tidegate_submits_total", operation="echo", result="recorded") == 5
    assert found.value("tidegate_submits_total", operation="echo", result="replayed") == 1
    assert found.value("tidegate_refusals_total", operation="", reason="unknown-operation") == 1
    assert found.value("tidegate_refusals_total", operation="echo", reason="unsupported-media-type") == 1
    second.close()
    assert scrape(first).total("tidegate_submits_total", result="recorded") == 5, "nothing goes with its process"
    first.close()


def test_every_refusal_is_counted_by_its_reason_and_no_name_that_somebody_made_up(web: Web) -> None:
    web.client.get("/nowhere")
    web.client.delete("/v1/operations/echo/jobs")
    web.submit("made-up-by-somebody")
    lines = b'{"input": 1}\n{"input": 2, "idempotency_key": "one"}\n{"input": 3, "idempotency_key": "one"}'
    bulk = web.client.post("/v1/operations/echo/jobs/bulk", data=lines, content_type="application/x-ndjson")
    assert [each["status"] for each in bulk.get_json()["jobs"]] == [202, 202, 422]

    found = scrape(web)

    refused = {("", "not-found"), ("", "method-not-allowed"), ("", "unknown-operation")}
    for name, reason in {*refused, ("echo", "idempotency-conflict")}:
        assert found.value("tidegate_refusals_total", operation=name, reason=reason) == 1, reason
    assert found.total("tidegate_submits_total", operation="echo") == 2
    assert "made-up" not in found.text


@on_both
def test_the_gauges_are_what_the_rows_say(web: Web) -> None:
    store = web.store
    open_lane(store, rates=("10/s", "1000/d"), concurrency=2)
    open_lane(store, "broken", breaker_after=3)
    change_lane(store, "broken", failures=4)
    open_lane(store, "stopped")
    store.limits.change("stopped", {}, paused=True)
    open_lane(store, "resting")
    change_lane(store, "resting", paused_until=database_now(timedelta(minutes=1)))
    waiting = [submit(store, lane="stopped") for _ in range(3)]
    change_job(store, waiting[0], run_at=database_now(timedelta(seconds=-100)))
    running(store)
    web.job_in(State.CANCELLED)
    store.samples.sample()
    store.facts.count_final()
    store.facts.beat_scheduler("one", until=timedelta(minutes=1))
    store.facts.beat_scheduler("frozen", until=timedelta(seconds=-1))

    found = scrape(web)

    def of(name: str, lane: str, **labels: str) -> float | None:
        return found.value(f"tidegate_{name}", downstream=lane, **labels)

    states = {state: found.value("tidegate_jobs", state=state) for state in State}
    assert states == dict.fromkeys(State, 0) | {State.QUEUED: 3, State.RUNNING: 1, State.CANCELLED: 1}
    assert (of("backlog_jobs", "stopped"), of("backlog_jobs", LANE)) == (3, 0)
    assert 100 <= (of("oldest_due_job_age_seconds", "stopped") or 0) < 160
    assert of("oldest_due_job_age_seconds", LANE) == 0
    assert (of("downstream_in_flight", LANE), of("downstream_concurrency_limit", LANE)) == (1, 2)
    assert of("downstream_concurrency_limit", "broken") is None
    assert of("downstream_rate_limit", LANE, rate="10/s") == 10
    assert of("downstream_rate_limit", LANE, rate="1000/d") == pytest.approx(1000 / 86400)
    assert (of("downstream_breaker_open", "broken"), of("downstream_failures_in_a_row", "broken")) == (1, 4)
    assert of("downstream_breaker_open", LANE) == 0
    paused = {(lane, by): of("downstream_paused", lane, by=by) for lane in ("stopped", "resting") for by in PAUSERS}
    assert {key for key, value in paused.items() if value} == {("stopped", "operator"), ("resting", "downstream")}
    assert of("releases_total", LANE) == 1
    assert found.value("tidegate_stewards") == 1
    assert found.value("tidegate_worker_slots", queue="io") == 8
    assert found.value("tidegate_worker_slots", queue="webhooks") == 0
    operations = web.app.extensions["tidegate"].registry.operations.values()
    assert found.value("tidegate_operations", queue="cpu") == sum(each.queue == "cpu" for each in operations) > 0
    assert found.value("tidegate_database_up") == 1


PAUSERS = ("operator", "downstream")


def test_a_job_that_may_not_start_yet_is_not_due(web: Web) -> None:
    later = (clock.now() + timedelta(seconds=50)).isoformat()
    web.accepted(Job_Not_Before=later)
    web.store.limits.declare(web.app.extensions["tidegate"].registry.downstreams.values())

    assert scrape(web).value("tidegate_oldest_due_job_age_seconds", downstream="echo") == 0


def test_attempts_are_counted_by_how_they_ended(web: Web) -> None:
    store = web.store

    def failing(params: JsonValue) -> None:
        raise PermanentError("no")

    def raising(params: JsonValue) -> None:
        raise RuntimeError("maybe")

    def late(params: JsonValue, attempt: Attempt) -> None:
        change_job(store, attempt.job_id, created_at=database_now(timedelta(hours=-1)), deadline=database_now())

    def calling(params: JsonValue, attempt: Attempt) -> None:
        for _ in range(3):
            attempt.slot()

    for function in (returning, failing, raising, late):
        run_one(store, function)
        change_lane(store, paused_until=None, failures=0)
        with store.database.transaction() as connection:
            connection.execute(jobs.delete())
    open_lane(store)
    made = operation(name="calling", downstream=LANE, paced="calls")(calling)
    job_id = submit(store, operation="calling")
    change_job(store, job_id, paced_by_calls=True)
    assert runner_of(store, made).run(job_id, release_one(store).fence)
    write_counts(store)

    found = scrape(web)

    def attempts(outcome: str, name: str = "made") -> float | None:
        return found.value("tidegate_attempts_total", operation=name, downstream=LANE, outcome=outcome)

    assert (attempts("succeeded"), attempts("failed"), attempts("error")) == (2, 1, 1)
    assert attempts("succeeded", "calling") == 1
    assert found.value("tidegate_late_results_total", operation="made", downstream=LANE) == 1
    assert found.value("tidegate_calls_total", downstream=LANE) == 4 + 3
    for wait in ("queue_wait", "slot_wait"):
        assert found.value(f"tidegate_{wait}_seconds_count", downstream=LANE) == 5
    of_made = {"operation": "made", "downstream": LANE}
    assert found.value("tidegate_attempt_seconds_count", **of_made) == 4
    assert found.value("tidegate_attempt_seconds_bucket", le="+Inf", **of_made) == 4
    assert (found.value("tidegate_attempt_seconds_sum", **of_made) or 0) > 0
    assert found.value("tidegate_jobs_finished_total", operation="made", state="succeeded") == 1
    assert found.value("tidegate_jobs_finished_total", operation="made", state="failed") == 1


def test_a_wait_is_that_of_the_job_and_not_of_its_message(web: Web) -> None:
    open_lane(web.store)
    job_id = submit(web.store, operation=echo.name)
    change_job(web.store, job_id, run_at=database_now(timedelta(seconds=-45)))
    assert runner_of(web.store, echo).run(job_id, release_one(web.store).fence)
    write_counts(web.store)

    found = scrape(web)

    assert 45 <= (found.value("tidegate_queue_wait_seconds_sum", downstream=LANE) or 0) < 60
    assert found.value("tidegate_queue_wait_seconds_bucket", downstream=LANE, le="30.0") == 0
    assert found.value("tidegate_queue_wait_seconds_bucket", downstream=LANE, le="60.0") == 1


@pytest.mark.usefixtures("secret")
def test_webhooks_are_counted_by_how_their_sendings_went(web: Web, receiver: HttpServer) -> None:
    open_senders(web.store)
    for status in (200, 410):
        receiver.answer = respond(status)
        ended_job(web.store, receiver.url)
        assert send_due(web.store) == 1
    ended_job(web.store, receiver.url)
    write_counts(web.store)

    found = scrape(web)

    attempts = {each: found.value("tidegate_webhook_attempts_total", outcome=each) for each in OUTCOMES}
    assert attempts == {"delivered": 1, "not_taken": 1, "no_answer": 0, "not_sent": 0}
    assert found.value("tidegate_webhooks_failed_total") == 1, "410 is the receiver's last word"
    assert found.value("tidegate_webhooks_pending") == 1
    assert found.value("tidegate_webhook_seconds_count") == 2


@pytest.fixture
def cut_off(tmp_path: Path, postgresql_url: str) -> Iterator[tuple[Web, Proxy]]:
    """A face with keys, and the line to its database."""
    with Proxy(make_url(postgresql_url).port or 5432) as proxy:
        url = make_url(postgresql_url).set(host="127.0.0.1", port=proxy.port)
        face = Web(tmp_path, url.render_as_string(hide_password=False), auth="keys")
        yield face, proxy
        face.close()


def test_without_its_database_it_says_that_and_nothing_else(cut_off: tuple[Web, Proxy]) -> None:
    face, proxy = cut_off
    proxy.refuse()
    proxy.cut()

    answer = face.client.get("/metrics", headers={"Authorization": "Bearer tg_whatever"})

    found = Scrape(answer.get_data(as_text=True))
    assert answer.status_code == 200
    assert [family.name for family in found.families] == ["tidegate_database_up"]
    assert found.value("tidegate_database_up") == 0
    assert face.client.get("/metrics").status_code == 401


@on_both
def test_a_scrape_asks_as_much_whatever_waits(web: Web) -> None:
    """The lanes and the workers, due and under way (two), places, workers wanted, counts."""
    scrape(web)
    with asked(web.database) as idle:
        scrape(web)
    for _ in range(30):
        submit(web.store, lane="echo")
    web.store.samples.sample()
    web.submit("nothing")
    with asked(web.database) as busy:
        scrape(web)

    assert len(idle.statements) == 7, str(idle)
    assert len(busy.statements) == 8, str(busy)


def test_a_count_of_an_older_release_with_other_labels_does_no_harm(web: Web) -> None:
    with web.database.transaction() as connection:
        connection.execute(insert(counts).values(series=CALLS.name, labels='["a","b"]', value=3))
        connection.execute(insert(counts).values(series="tidegate_forgotten_total", labels="[]", value=3))

    assert scrape(web).total("tidegate_calls_total") == 0
