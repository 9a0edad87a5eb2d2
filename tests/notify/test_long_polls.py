"""`Prefer: wait`: a submit or a read that is answered when there is something new. With no worker, no scheduler and
no Redis: what is heard of changes then is what the slow look finds."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.pool import QueuePool
from werkzeug.test import TestResponse

from tests.support.waiting import wait_until
from tests.support.web import LEASE, Web, assert_is_problem
from tidegate.operations.operation import Progress
from tidegate.states import State

on_both = pytest.mark.both_databases("each look is SQL, on a connection of a pool")

LONG = "wait=15"
ENDS = {State.SUCCEEDED: 200, State.FAILED: 502, State.CANCELLED: 410}


@contextmanager
def meanwhile(call: Callable[[], TestResponse]) -> Iterator["Future[TestResponse]"]:
    """The call, in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)


def get(web: Web, job_id: str, **headers: str) -> TestResponse:
    """Reads the job with a client of its own, as a thread needs it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.app.test_client().get(f"/v1/jobs/{job_id}", headers=named)


def held(web: Web) -> int:
    """How many requests are held."""
    count: int = web.app.extensions["tidegate"].watcher.count
    return count


def await_held(web: Web, count: int = 1) -> None:
    """Waits until so many are."""
    wait_until(lambda: held(web) == count, description=f"{count} request(s) are held", timeout_seconds=20)


def end(web: Web, job_id: str, state: State) -> None:
    """Ends the job, as a worker or its owner would."""
    if state is State.CANCELLED:
        web.app.test_client().post(f"/v1/jobs/{job_id}/cancel")
    elif state is State.FAILED:
        error = {"code": "operation_error", "message": "it failed"}
        assert web.store.workers.fail(web.claim(job_id), error, call_seconds=None)
    else:
        web.succeed(job_id, b'{"sum":3}', is_json=True)


def only_job(web: Web) -> str:
    """The id of the one job there is, as soon as it is there."""

    def found() -> list[Any]:
        return list(web.client.get("/v1/jobs").get_json()["jobs"])

    return str(wait_until(found, description="the job is recorded")[0]["id"])


@pytest.mark.parametrize("state", ENDS)
def test_a_submit_that_waits_gets_the_end_as_a_read_would(web: Web, state: State) -> None:
    def submit() -> TestResponse:
        return web.app.test_client().post("/v1/operations/echo/jobs", json=1, headers={"Prefer": LONG})

    with meanwhile(submit) as answer:
        await_held(web)
        job_id = only_job(web)
        end(web, job_id, state)
        waited = answer.result(20)

    read = web.read(job_id)
    assert waited.status_code == read.status_code == ENDS[state]
    assert waited.headers["Location"] == read.get_json()["links"]["self"]
    assert waited.headers["Preference-Applied"] == LONG
    assert waited.headers.get("ETag") == read.headers.get("ETag")
    if state is State.SUCCEEDED:
        assert waited.get_json() == read.get_json()
        assert waited.get_json()["result"] == {"sum": 3}
    else:
        assert waited.get_json()["state"] == state
    assert held(web) == 0


def test_a_submit_whose_job_does_not_end_in_time_gets_its_202(web: Web) -> None:
    answer = web.submit(headers={"Prefer": "respond-async, wait=1, handling=lenient"})
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "respond-async, wait=1"
    assert answer.headers["Location"].endswith(answer.get_json()["id"])
    assert "ETag" not in answer.headers
    assert held(web) == 0


def test_the_same_request_again_waits_for_the_same_job(web: Web) -> None:
    job_id = web.accepted(Idempotency_Key="k")
    headers = {"Prefer": LONG, "Idempotency-Key": "k"}
    with meanwhile(
        lambda: web.app.test_client().post(
            "/v1/operations/echo/jobs", data=b"1", headers=headers, content_type="application/json"
        )
    ) as answer:
        await_held(web)
        end(web, job_id, State.SUCCEEDED)
        assert (answer.result(20).status_code, answer.result().get_json()["id"]) == (200, job_id)


@on_both
def test_a_read_is_answered_at_the_next_change(web: Web) -> None:
    job_id = web.accepted()
    with meanwhile(lambda: get(web, job_id, Prefer=LONG)) as answer:
        await_held(web)
        claim = web.claim(job_id)
        changed = answer.result(20)
    assert (changed.status_code, changed.get_json()["state"]) == (202, "running")
    assert changed.headers["Preference-Applied"] == LONG
    assert changed.headers["Vary"] == "Accept"

    tag = changed.headers["ETag"]
    with meanwhile(lambda: get(web, job_id, Prefer=LONG, If_None_Match=tag)) as answer:
        await_held(web)
        assert web.store.workers.progress(claim, Progress(done=2, total=5), lease=LEASE)
        changed = answer.result(20)
    assert changed.get_json()["progress"]["percent"] == 40
    assert changed.headers["ETag"] != tag


def test_a_read_that_knows_an_older_version_is_answered_at_once(web: Web) -> None:
    job_id = web.accepted()
    old = web.read(job_id).headers["ETag"]
    web.claim(job_id)
    started = time.monotonic()
    answer = get(web, job_id, Prefer=LONG, If_None_Match=old)
    assert answer.get_json()["state"] == "running"
    assert time.monotonic() - started < 10, "it did not wait"


def test_a_read_of_a_job_that_does_not_change_is_answered_when_the_time_is_over(web: Web) -> None:
    job_id = web.accepted()
    started = time.monotonic()
    same = get(web, job_id, Prefer="wait=1")
    assert time.monotonic() - started >= 1
    assert (same.status_code, same.headers["Preference-Applied"]) == (202, "wait=1")
    again = get(web, job_id, Prefer="wait=1", If_None_Match=same.headers["ETag"])
    assert (again.status_code, again.headers["Preference-Applied"]) == (304, "wait=1")
    assert int(again.headers["Retry-After"]) >= 1


def test_a_final_job_is_not_waited_for(web: Web) -> None:
    job_id = web.job_in(State.SUCCEEDED)
    started = time.monotonic()
    answer = get(web, job_id, Prefer=LONG)
    assert (answer.status_code, answer.get_json()["result"]) == (200, {"sum": 3})
    unchanged = get(web, job_id, Prefer=LONG, If_None_Match=answer.headers["ETag"])
    assert unchanged.status_code == 304
    assert time.monotonic() - started < 10


def test_a_wait_ends_with_504_at_the_deadline_though_nobody_says_so(web: Web) -> None:
    job_id = web.accepted(Job_Timeout="2")
    answer = get(web, job_id, Prefer=LONG)
    assert answer.status_code == 504
    document = assert_is_problem(answer, 504, "job-expired")
    assert document["finished_at"] >= document["deadline"]
    row = web.row(job_id)
    assert (row.state, row.version) == ("expired", 2)
    assert (row.finished_at - row.deadline).total_seconds() < 1, "to the second"


@on_both
def test_many_waits_end_at_their_common_deadline(web: Web) -> None:
    job_ids = [web.accepted(Job_Timeout="3") for _ in range(30)]
    with ThreadPoolExecutor(30) as pool:
        statuses = [answer.status_code for answer in pool.map(lambda job_id: get(web, job_id, Prefer=LONG), job_ids)]
    assert statuses == [504] * 30


def test_a_wait_for_a_job_that_is_erased_ends_with_404(web: Web) -> None:
    job_id = web.accepted()
    with meanwhile(lambda: get(web, job_id, Prefer=LONG, If_None_Match="*")) as answer:
        await_held(web)
        with web.database.transaction() as connection:
            connection.exec_driver_sql("DELETE FROM bodies")
            connection.exec_driver_sql("DELETE FROM jobs")
        assert_is_problem(answer.result(20), 404, "unknown-job")
    assert held(web) == 0


def test_without_room_a_wait_is_answered_at_once(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, held_requests=1)
    job_id = web.accepted()
    with meanwhile(lambda: get(web, job_id, Prefer=LONG)) as first:
        await_held(web)
        started = time.monotonic()
        second = get(web, job_id, Prefer=LONG)
        submit = web.submit(headers={"Prefer": LONG})
        assert time.monotonic() - started < 10
        assert (second.status_code, submit.status_code) == (202, 202)
        assert "Preference-Applied" not in second.headers
        assert "Preference-Applied" not in submit.headers
        end(web, job_id, State.CANCELLED)
        assert first.result(20).status_code == 410
    web.close()


@on_both
def test_whoever_waits_holds_neither_a_connection_nor_a_turn(tmp_path: Path, database_url: str) -> None:
    web = Web(tmp_path, database_url, web_threads=1)
    job_id = web.accepted()
    with ThreadPoolExecutor(40) as pool:
        answers = [pool.submit(get, web, job_id, Prefer=LONG) for _ in range(40)]
        await_held(web, 40)
        connections = web.database.engine.pool
        assert isinstance(connections, QueuePool)
        assert connections.checkedout() <= 1, "the look may be at it"
        assert web.client.get("/health/live").status_code == 200, "the one turn is free"
        end(web, job_id, State.SUCCEEDED)
        assert {answer.result(20).status_code for answer in answers} <= {202, 200}, "running, or already done"
    assert held(web) == 0
    web.close()


def test_without_a_bell_one_statement_in_a_quarter_second_looks_after_all_who_wait(
    tmp_path: Path, database_url: str
) -> None:
    web = Web(tmp_path, database_url)
    job_ids = [web.accepted() for _ in range(20)]
    statements: list[str] = []
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(get, web, job_id, Prefer="wait=6") for job_id in job_ids]
        await_held(web, 20)
        time.sleep(1)  # the looks at those that came have been made
        event.listen(web.database.engine, "before_cursor_execute", lambda *call: statements.append(call[2].split()[0]))
        time.sleep(3)
        seen = list(statements)
        for answer in answers:
            assert answer.result(20).status_code == 202
    assert 3 <= len(seen) <= 14, "whoever waits, and however many"
    web.close()


def test_when_the_process_stops_nobody_waits_any_longer(web: Web) -> None:
    job_id = web.accepted()
    started = time.monotonic()
    with meanwhile(lambda: get(web, job_id, Prefer=LONG)) as answer:
        await_held(web)
        threading.Thread(target=web.app.extensions["tidegate"].watcher.stop).start()
        assert answer.result(20).status_code == 202
    assert get(web, job_id, Prefer=LONG).status_code == 202, "and nobody begins to"
    assert time.monotonic() - started < 10


def test_a_long_poll_counts_as_one_read(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, poll_limit="2/m")
    job_id = web.accepted()
    assert [get(web, job_id, Prefer="wait=1").status_code for _ in range(3)] == [202, 202, 429]
    web.close()
