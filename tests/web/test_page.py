"""The live page without a script: what it shows, what its forms do, and whom they obey."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.support.jobs import submit_many
from tests.support.page import OWN, part_of, read, send, text_of
from tests.support.statements import asked
from tests.support.web import Web
from tidegate.database.connection import Database
from tidegate.database.schema import jobs
from tidegate.database.time import database_now
from tidegate.operations.operation import Progress
from tidegate.states import State
from tidegate.stores import Store

on_both = pytest.mark.both_databases("what is shown is cut, ordered and found by SQL")

UNKNOWN = "0199c5a0-0000-7000-8000-000000000000"
TICKS = {
    State.QUEUED: "ticks-one",
    State.RUNNING: "ticks-two",
    State.SUCCEEDED: "ticks-two",
    State.FAILED: "ticks-cross",
    State.EXPIRED: "ticks-cross",
    State.CANCELLED: "ticks-cross",
}


@pytest.fixture
def web(web: Web) -> Web:
    """With lanes and workers, as in a stack."""
    web.declare()
    return web


@on_both
@pytest.mark.parametrize("state", State)
def test_each_job_shows_where_it_is_as_messengers_do(web: Web, state: State) -> None:
    job_id = web.job_in(state)
    overview, job = web.client.get("/"), web.client.get(f"/jobs/{job_id}")
    row = re.search(rf'<tr id="row-{job_id}">.*?</tr>', part_of(overview, "recent"), re.DOTALL)
    assert row
    for shown in (row[0], part_of(job, "now")):
        assert f"#{TICKS[state]}" in shown
        assert f'class="ticks {state}"' in shown, "the colour of the ticks tells the two ends with two ticks apart"
    assert (job_id in part_of(overview, "running")) is (state is State.RUNNING)
    assert ("Cancel this job" in text_of(job)) is (not state.is_final)
    assert ("Submit again" in text_of(job)) is (state.is_final and state is not State.SUCCEEDED)


def test_an_empty_gateway_says_so(tmp_path: Path, sqlite_url: str) -> None:
    empty = Web(tmp_path, sqlite_url)
    text = read(empty)
    empty.close()
    assert "No worker is there." in text
    assert "No downstream is there yet" in text
    assert "Nothing runs just now." in text
    assert "No job was submitted yet." in text


def test_a_running_job_has_a_bar_with_its_progress(web: Web) -> None:
    claim = web.claim(web.accepted("echo"))
    web.store.workers.progress(claim, Progress(done=2, total=5, note="resolving"), lease=web.settings.retention)
    running = part_of(web.client.get("/"), "running")
    assert 'max="100" value="40"' in running
    assert re.search(r'<progress [^>]*aria-label="Progress of echo', running)
    assert '2 of 5 · <span class="note">resolving</span>' in running


def test_a_lane_shows_what_it_may_and_what_it_does(web: Web) -> None:
    web.claim(web.accepted("quote"))
    for _ in range(3):
        web.accepted("quote")
    web.store.samples.sample()
    look_anew(web)
    lane = text_of(web.client.get("/"))
    sample = lane[lane.index("sample") :]
    assert "used of 20/s, 10000/d" in sample
    assert "In flight 1 of 4" in sample
    assert "Waiting 3" in sample


@on_both
def test_a_jobs_timeline_has_its_attempts_waits_and_end(web: Web) -> None:
    job_id = web.accepted("echo")
    for _ in range(2):
        error = {"code": "operation_error", "message": "it rained"}
        assert web.store.workers.try_again(
            web.claim(job_id),
            error,
            after=-web.settings.retention,
            is_spent=False,
            blames_downstream=False,
            call_seconds=0.2,
        )
    web.succeed(job_id, b"3", is_json=True)
    text = text_of(web.client.get(f"/jobs/{job_id}"))
    found = [text.index(each) for each in ("Created", "Attempt 1 failed", "Attempt 2 failed", "Attempt 3 succeeded")]
    assert found == sorted(found)
    assert "call of 200 ms" in text
    assert text.index("after it was created") > found[-1]


def test_a_jobs_timeline_has_its_webhook(web: Web) -> None:
    secret = web.client.post("/v1/webhook-secrets")
    assert secret.status_code < 300, secret.get_data(as_text=True)
    answer = web.submit(headers={"Webhook-Url": "https://hooks.example/a?token=hunter2"})
    assert answer.status_code == 202, answer.get_data(as_text=True)
    page = web.client.get(f"/jobs/{answer.get_json()['id']}")
    assert "A webhook will tell its end to hooks.example" in text_of(page)
    assert "hunter2" not in page.get_data(as_text=True), "its address may be a secret"


def test_what_came_in_and_out_is_shown_as_text_and_nothing_else(web: Web) -> None:
    hostile = b'{"x": "<script>alert(1)</script>", "y": "\xe2\x80\xae"}'
    job_id = web.accepted("raw_echo", hostile)
    web.succeed(job_id, b"<img src=x onerror=alert(1)>", "text/html", is_json=False)
    page = web.client.get(f"/jobs/{job_id}").get_data(as_text=True)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<img src=x" not in page
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in page
    assert "⟨U+202E⟩" in page


def test_a_large_body_is_cut_and_can_be_had_whole_as_a_file(web: Web) -> None:
    job_id = web.accepted("raw_echo", b'"' + b"a" * 100_000 + b'"')
    page = web.client.get(f"/jobs/{job_id}").get_data(as_text=True)
    assert "a" * 4000 in page
    assert "a" * 4100 not in page
    assert "100 KB" in page
    answer = web.client.get(f"/jobs/{job_id}/params")
    assert len(answer.data) == 100_002
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{job_id}-params.json"'
    assert answer.content_type == "application/octet-stream"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert web.client.get(f"/jobs/{job_id}/result").status_code == 404


def test_what_is_no_text_is_named_by_type_and_size(web: Web) -> None:
    answer = web.submit("raw_echo", b"\x00\xff" * 600, "application/zip")
    text = text_of(web.client.get(f"/jobs/{answer.get_json()['id']}"))
    assert "application/zip, 1.2 KB" in text
    assert "This is no text." in text


@on_both
def test_a_job_that_was_sent_nothing_has_a_page_as_well(web: Web) -> None:
    """Of no bytes SQLite's substr makes NULL."""
    answer = web.client.get(f"/jobs/{web.accepted('quote', b'')}")
    assert answer.status_code == 200
    assert "0 bytes" in text_of(answer)


@on_both
def test_jobs_are_found_by_their_id_or_its_beginning(web: Web) -> None:
    job_id, other = web.accepted("echo"), web.accepted("echo")
    for whole in (job_id, f" http://localhost/v1/jobs/{job_id}/events ", job_id.replace("-", "").upper()):
        answer = web.client.get("/", query_string={"q": whole})
        assert (answer.status_code, answer.headers["Location"]) == (303, f"./jobs/{job_id}")
    found = read(web, f"/?q={job_id[:8]}")
    assert job_id in found
    assert other in found
    for unknown in (UNKNOWN, "0000", "not an id", "<b>", "\0"):
        answer = web.client.get("/", query_string={"q": unknown})
        assert answer.status_code == 200
        assert "No job has an id that begins with" in text_of(answer)
        assert "<b>" not in part_of(answer, "running")


@on_both
def test_lists_are_a_window_with_a_way_to_older_jobs(web: Web) -> None:
    ids = [web.accepted("echo") for _ in range(51)]
    failed = web.job_in(State.FAILED)
    newest = web.client.get("/")
    assert part_of(newest, "recent").count("<tr id=") == 50
    older = re.search(r'href="\./(\?cursor=[^"#]*)', newest.get_data(as_text=True))
    assert older
    page = web.client.get("/" + older[1]).get_data(as_text=True)
    assert re.findall(r'<tr id="row-([^"]*)"', page) == [ids[1], ids[0]]
    page = web.client.get("/?state=failed&operation=echo").get_data(as_text=True)
    assert re.findall(r'<tr id="row-([^"]*)"', page) == [failed]
    assert "There is no such job." in read(web, "/?state=succeeded")


def test_ten_thousand_jobs_cost_no_statement_and_no_row_more(web: Web) -> None:
    def cost() -> tuple[int, int]:
        look_anew(web)
        web.let_counts_be_due()
        with asked(web.database) as seen:
            page = web.client.get("/")
        return len(seen.statements), page.get_data(as_text=True).count("<tr id=")

    web.claim(web.accepted("echo"))
    for _ in range(60):
        web.accepted("echo")
    before = cost()
    plan = _plan_of_running(web.database)
    for _ in range(10):
        submit_many(web.store, 1000, lane="echo")
    assert cost() == before
    assert "ix_jobs_lease" in plan


def test_forms_pause_resume_and_change_a_lane(web: Web) -> None:
    answer = send(web, "/downstreams/sample/pause")
    assert (answer.status_code, answer.headers["Location"]) == (303, "../../#downstream-sample")
    assert "sample Paused" in read(web), "at once, and not when the page looks again"
    send(web, "/downstreams/sample/resume")
    assert "sample Idle" in read(web)
    send(web, "/downstreams/sample/rate", rate=" 5/s , 100/m ")
    assert "used of 5/s, 100/m" in read(web)
    assert "Back to 20/s, 10000/d" in read(web)
    send(web, "/downstreams/sample/rate", rate="unlimited")
    assert "used, no limit" in read(web)
    send(web, "/downstreams/sample/rate", rate="unlimited", declared="1")
    assert "used of 20/s, 10000/d" in read(web)


@pytest.mark.parametrize("rate", ["", "fast", "0/s", "5/s,", "<b>/s"])
def test_a_rate_that_is_none_changes_nothing_and_is_explained(web: Web, rate: str) -> None:
    answer = send(web, "/downstreams/sample/rate", rate=rate)
    assert (answer.status_code, answer.mimetype) == (422, "text/html")
    assert "50/s" in text_of(answer)
    assert "<b>/s" not in answer.get_data(as_text=True)
    assert "used of 20/s, 10000/d" in read(web)


def test_a_job_is_cancelled_and_tried_again_once_however_often_the_button_is_pressed(web: Web) -> None:
    job_id = web.accepted("echo")
    for _ in range(2):
        answer = send(web, f"/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.headers["Location"]) == (303, f"../../jobs/{job_id}#job-state")
    assert web.row(job_id).state == State.CANCELLED
    new = {send(web, f"/jobs/{job_id}/retry").headers["Location"] for _ in range(2)}
    assert len(new) == 1
    assert web.count() == 2
    assert f"A new try of {job_id}" in read(web, "/" + new.pop().removeprefix("../../").partition("#")[0])
    done = web.job_in(State.SUCCEEDED)
    assert send(web, f"/jobs/{done}/cancel").status_code == 303, "it ended a moment ago; its page says how"
    assert send(web, f"/jobs/{done}/retry").status_code == 409


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_no_other_site_can_send_a_form(web: Web, headers: dict[str, str]) -> None:
    """What a browser says to be another site's is refused before the page (test_foreign_sites), the rest by it."""
    job_id = web.accepted("echo")
    for path in ("/downstreams/sample/pause", f"/jobs/{job_id}/cancel", "/sign-out"):
        answer = web.client.post(path, headers=headers)
        assert answer.status_code == 403
    assert web.row(job_id).state == State.QUEUED
    assert "sample Idle" in read(web)


@pytest.mark.parametrize("headers", [OWN, {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}], ids=str)
def test_its_own_forms_get_through(web: Web, headers: dict[str, str]) -> None:
    assert web.client.post("/downstreams/sample/pause", headers=headers).status_code == 303


def test_pages_load_only_their_own_files_and_nothing_inline(web: Web) -> None:
    job_id = web.job_in(State.FAILED)
    for path in ("/", f"/jobs/{job_id}", f"/jobs/{UNKNOWN}", "/?q=zz"):
        answer = web.client.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
        assert "unsafe" not in policy
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "private, no-cache"
        page = answer.get_data(as_text=True)
        assert not re.findall(r"<style|<script>|\sstyle=|\son\w+=|https?://", page)
        for file in set(re.findall(r'(?:src|href)="(?:\.\./|\./)(static/[^"]*)"', page)):
            assert web.client.get(f"/{file}", buffered=True).status_code == 200
    for script in ("page", "parts", "forms", "times"):
        assert web.client.get(f"/static/{script}.js", buffered=True).mimetype == "text/javascript"


def test_what_is_not_there_is_a_page_for_people_and_a_problem_for_programs(web: Web) -> None:
    answer = web.client.get(f"/jobs/{UNKNOWN}")
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "There is no such job" in text_of(answer)
    assert web.client.get("/no-page").mimetype == "application/problem+json"
    assert web.client.get(f"/v1/jobs/{UNKNOWN}").mimetype == "application/problem+json"
    assert web.client.get("/?state=asleep").status_code == 400
    assert send(web, "/downstreams/nothing/pause").status_code == 404


def test_a_lane_that_nobody_looks_after_is_said_to_be_old(web: Web) -> None:
    job_id = web.accepted("echo")
    assert "Nobody lets jobs go." not in read(web)
    web.database.execute(update(jobs).where(jobs.c.id == job_id).values(run_at=database_now(timedelta(minutes=-1))))
    look_anew(web)
    assert "Nobody lets jobs go." in read(web)
    web.store.samples.sample()
    look_anew(web)
    assert "Nobody lets jobs go." not in read(web), "a scheduler looks at it"


def look_anew(web: Web) -> None:
    """Lets the second pass in which all are shown the same."""
    web.app.extensions["tidegate.page"].board.refresh()


def _plan_of_running(database: Database) -> str:
    """How SQLite finds the jobs that run."""
    with asked(database) as seen:
        Store(database).overview.running(None, most=1)
    (statement,) = seen.statements
    with database.transaction() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (0,) * statement.count("?")).all()
    return str(rows)


def test_a_job_for_later_and_one_that_is_too_late_are_marked(web: Web) -> None:
    """On the job's own page and in lists."""
    later = web.store.callers.now() + timedelta(seconds=20)
    job_id = web.accepted("echo", Job_Not_Before=later.isoformat())
    assert "Waits for the instant that its caller asked for" in (text := text_of(web.client.get(f"/jobs/{job_id}")))
    assert "Too late" not in text
    web.database.execute(update(jobs).where(jobs.c.id == job_id).values(deadline=database_now(timedelta(seconds=19))))
    assert "Too late for its deadline." in text_of(web.client.get(f"/jobs/{job_id}"))
    assert "too late" in part_of(web.client.get("/"), "recent")
