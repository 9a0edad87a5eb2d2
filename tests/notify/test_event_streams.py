"""A job as server-sent events, without a server: what is sent, when, and to whom."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url
from werkzeug.test import TestResponse

from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from tests.support.web import LEASE, Web, assert_is_problem
from tidegate.database.connection import Database
from tidegate.operations.operation import Progress
from tidegate.states import FINAL_STATES, State
from tidegate.stores import Store

UNKNOWN = "0199c5a0-0000-7000-8000-000000000000"


class Stream:
    """A client of an event stream that takes what is sent as it comes."""

    def __init__(self, web: Web, path: str, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer: TestResponse = web.app.test_client().get(path, headers=named)
        self._chunks: Iterator[bytes] = self.answer.iter_encoded()

    def blocks(self) -> Iterator[str]:
        """What is sent, as it comes: events, comments, fields."""
        for chunk in self._chunks:
            assert chunk.endswith(b"\n\n") or (chunk[:1] == b":" and chunk.count(b"\n") == 1)
            yield chunk.decode().rstrip("\n")

    def event(self) -> dict[str, Any]:
        """The next event, heartbeats passed over: its fields, the job's document as `data`."""
        for block in self.blocks():
            lines = [line.partition(": ") for line in block.split("\n")]
            data = "\n".join(value for name, _, value in lines if name == "data")
            if data:
                fields = {name: value for name, _, value in lines if name != "data"}
                return {**fields, "data": json.loads(data)}
        raise AssertionError("the stream ended")

    def is_at_its_end(self) -> bool:
        """Whether nothing but heartbeats comes any more."""
        return all(block.startswith(":") for block in self.blocks())

    def close(self) -> None:
        """Goes away."""
        self.answer.close()


def path_of(job_id: str) -> str:
    return f"/v1/jobs/{job_id}/events"


def held(web: Web) -> int:
    """How many requests are held."""
    count: int = web.app.extensions["tidegate"].watcher.count
    return count


def test_a_stream_tells_every_stage_and_ends_with_the_job(web: Web) -> None:
    job_id = web.accepted()
    stream = Stream(web, path_of(job_id))
    assert stream.answer.status_code == 200
    assert stream.answer.content_type == "text/event-stream"
    assert stream.answer.headers["Tidegate-Job-State"] == "queued"
    assert stream.answer.headers["Cache-Control"] == "private, no-cache"
    assert stream.answer.headers["X-Accel-Buffering"] == "no"

    first = stream.event()
    assert (first["event"], first["id"]) == ("state", "1")
    assert 500 <= int(first["retry"]) <= 2500
    assert first["data"] == {**web.read(job_id).get_json(), "waiting": first["data"]["waiting"]}
    claim = web.claim(job_id)
    running = stream.event()
    assert (running["event"], running["id"], running["data"]["state"]) == ("state", "2", "running")
    assert web.store.workers.progress(claim, Progress(done=2, total=5), lease=LEASE)
    progress = stream.event()
    assert (progress["event"], progress["id"]) == ("progress", "3")
    assert progress["data"]["progress"] == {"percent": 40, "done": 2, "total": 5, "note": None}
    error = {"code": "operation_error", "message": "it failed"}
    assert web.store.workers.fail(claim, error, call_seconds=None)
    last = stream.event()
    assert (last["event"], last["id"], last["data"]["error"]) == ("state", "4", error)
    assert stream.is_at_its_end()
    stream.close()
    assert held(web) == 0


def test_the_last_event_has_the_result_whatever_line_ends_are_in_it(web: Web) -> None:
    job_id = web.accepted()
    web.succeed(job_id, b'{\r\n "a": 1,\r "b":\n[2]\n}', is_json=True)
    assert Stream(web, path_of(job_id)).event()["data"]["result"] == {"a": 1, "b": [2]}


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
def test_a_client_that_comes_again_after_the_end_is_told_that_there_is_no_more(web: Web, state: State) -> None:
    job_id = web.job_in(state)
    stream = Stream(web, path_of(job_id), Last_Event_ID="1")
    last = stream.event()
    assert (last["data"]["state"], stream.is_at_its_end()) == (state, True)

    again = Stream(web, path_of(job_id), Last_Event_ID=last["id"]).answer
    assert (again.status_code, again.data, again.headers["Tidegate-Job-State"]) == (204, b"", state)
    by_accept = web.client.get(
        f"/v1/jobs/{job_id}", headers={"Accept": "text/event-stream", "Last-Event-ID": last["id"]}
    )
    assert by_accept.status_code == 204


def test_a_client_that_comes_again_before_the_end_gets_the_job_as_it_is(web: Web) -> None:
    job_id = web.accepted()
    web.claim(job_id)
    stream = Stream(web, path_of(job_id), Last_Event_ID="2")
    assert (event := stream.event())["id"] == "2"
    assert event["data"]["state"] == "running"
    stream.close()


def test_the_jobs_own_url_has_events_for_those_who_accept_nothing_else(web: Web) -> None:
    job_id = web.job_in(State.SUCCEEDED)
    stream = Stream(web, f"/v1/jobs/{job_id}", Accept="text/event-stream")
    assert (stream.answer.content_type, stream.answer.headers["Vary"]) == ("text/event-stream", "Accept")
    assert stream.event()["data"]["result"] == {"sum": 3}
    for accept in ("*/*", "application/json, text/event-stream;q=0.5", "text/html", "", "text/*;q=0.1, */*;q=0.2"):
        answer = web.client.get(f"/v1/jobs/{job_id}", headers={"Accept": accept})
        assert (answer.content_type, answer.headers["Vary"]) == ("application/json", "Accept"), accept


def test_a_stream_of_a_job_that_expires_ends_with_that(web: Web) -> None:
    job_id = web.accepted(Job_Timeout="1")
    stream = Stream(web, path_of(job_id))
    assert stream.event()["data"]["state"] == "queued"
    last = stream.event()
    assert (last["event"], last["id"], last["data"]["state"]) == ("state", "2", "expired")
    assert last["data"]["error"]["code"] == "deadline_exceeded"
    assert stream.is_at_its_end()


def test_while_nothing_happens_there_are_heartbeats(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, hold_seconds=1)
    job_id = web.accepted()
    stream = Stream(web, path_of(job_id))
    assert stream.event()["id"] == "1"
    blocks = stream.blocks()
    assert [next(blocks), next(blocks)] == [": still here", ": still here"]
    stream.close()
    assert held(web) == 0
    web.close()


def test_a_stream_of_a_job_that_is_erased_ends(web: Web) -> None:
    job_id = web.accepted()
    stream = Stream(web, path_of(job_id))
    assert stream.event()["id"] == "1"
    with web.database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM bodies")
        connection.exec_driver_sql("DELETE FROM jobs")
    assert stream.is_at_its_end()
    assert_is_problem(web.client.get(path_of(job_id)), 404, "unknown-job")


def test_when_the_process_stops_streams_end_and_new_ones_are_short(web: Web) -> None:
    job_id = web.accepted()
    stream = Stream(web, path_of(job_id))
    assert stream.event()["id"] == "1"
    web.app.extensions["tidegate"].watcher.stop()
    assert stream.is_at_its_end()
    another = Stream(web, path_of(job_id))
    assert another.event()["id"] == "1"
    assert another.is_at_its_end()


def test_without_room_a_stream_is_refused_and_says_when_to_come_again(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, held_requests=1)
    job_id, done = web.accepted(), web.job_in(State.CANCELLED)
    first = Stream(web, path_of(job_id))
    refused = web.client.get(path_of(job_id))
    assert_is_problem(refused, 503, "no-room")
    assert refused.headers["Retry-After"] == "5"
    assert_is_problem(web.client.get(f"/v1/jobs/{job_id}", headers={"Accept": "text/event-stream"}), 503, "no-room")
    assert Stream(web, path_of(done)).event()["data"]["state"] == "cancelled", "which needs none"
    first.close()
    assert Stream(web, path_of(job_id)).answer.status_code == 200
    web.close()


def test_head_takes_no_room(web: Web) -> None:
    job_id = web.accepted()
    answer = web.client.head(path_of(job_id))
    assert (answer.status_code, answer.content_type, held(web)) == (200, "text/event-stream", 0)


def test_opening_a_stream_counts_as_a_read(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, poll_limit="2/m")
    job_id, done = web.accepted(), web.job_in(State.SUCCEEDED)
    for _ in range(2):
        Stream(web, path_of(job_id)).close()
    assert_is_problem(web.client.get(path_of(job_id)), 429, "too-fast")
    assert Stream(web, path_of(done)).answer.status_code == 200, "of a final job they are free"
    web.close()


def test_a_job_that_nobody_has_is_a_404(web: Web) -> None:
    assert_is_problem(web.client.get(path_of(UNKNOWN)), 404, "unknown-job")
    assert web.client.get("/v1/jobs/not-an-id/events").status_code == 404


def test_a_job_that_is_run_again_is_told_stage_by_stage(web: Web) -> None:
    job_id = web.accepted()
    stream = Stream(web, path_of(job_id))
    assert stream.event()["data"]["attempt"] == 0
    claim = web.claim(job_id)
    assert stream.event()["data"]["attempt"] == 1
    assert web.store.workers.hand_back(claim, after=LEASE, outcome="handed back")
    back = stream.event()
    assert (back["event"], back["data"]["state"], back["data"]["attempt"]) == ("state", "queued", 0)
    stream.close()


def test_many_who_watch_one_job_are_told_together(web: Web) -> None:
    job_id = web.accepted()
    with ThreadPoolExecutor(30) as pool:
        streams = list(pool.map(lambda _: Stream(web, path_of(job_id)), range(30)))
        assert {event["id"] for event in pool.map(Stream.event, streams)} == {"1"}
        last = [pool.submit(Stream.event, stream) for stream in streams]
        web.client.post(f"/v1/jobs/{job_id}/cancel")
        assert {future.result(20)["data"]["state"] for future in last} == {"cancelled"}
        for stream in streams:
            stream.close()
    wait_until(lambda: held(web) == 0, description="all have gone")


def test_a_stream_outlives_a_database_that_goes_away(tmp_path: Path, postgresql_url: str) -> None:
    hands = Store(Database(postgresql_url))
    with Proxy(make_url(postgresql_url).port or 5432) as proxy:
        url = make_url(postgresql_url).set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        web = Web(tmp_path, url, hold_seconds=1)
        job_id = web.accepted()
        stream = Stream(web, path_of(job_id))
        assert stream.event()["id"] == "1"
        proxy.refuse()
        blocks = stream.blocks()
        assert [next(blocks), next(blocks)] == [": still here", ": still here"]
        assert hands.callers.cancel(job_id, None)
        assert next(blocks) == ": still here", "nobody can know"
        proxy.forward()
        assert stream.event()["data"]["state"] == "cancelled"
        assert stream.is_at_its_end()
        web.close()
    hands.database.close()
