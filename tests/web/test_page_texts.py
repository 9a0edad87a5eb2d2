"""What the live page says: why a job expired, each fault by itself, how many jobs there are, what a button will do."""

import html
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests.support.page import part_of, read, send
from tests.support.statements import asked
from tests.support.web import LEASE, Web
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.database.schema import downstreams, jobs, workers
from tidegate.database.time import database_now
from tidegate.operations.operation import Progress
from tidegate.states import State
from webapp.page import board

on_both = pytest.mark.both_databases("what is counted and kept of an expiry is SQL")
UNKNOWN = "0199c5a0-0000-7000-8000-000000000000"
AGO = timedelta(minutes=5)


@pytest.fixture
def web(web: Web) -> Web:
    """With downstreams and workers, as in a stack."""
    web.declare()
    return web


def expire(web: Web, job_id: str) -> tuple[str, str]:
    """Lets its deadline pass; what its page and its row in the list say then."""
    web.database.execute(update(jobs).where(jobs.c.id == job_id).values(run_at=database_now(-AGO)))
    web.pass_deadline(job_id)
    web.store.upkeep.expire(10)
    web.app.extensions["tidegate.page"].board.refresh()
    row = re.search(rf'<tr id="row-{job_id}">.*?</tr>', part_of(web.client.get("/"), "recent"), re.DOTALL)
    assert row
    return read(web, f"/jobs/{job_id}"), readable(row[0])


def readable(part: str) -> str:
    """A part without its markup."""
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", part)).split())


@on_both
@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({}, "for its turn at the downstream's pace"),
        ({"paused": True}, "for its downstream, which was paused"),
        ({"breaker_after": 1, "failures": 1}, "for its downstream, whose breaker was open"),
    ],
    ids=str,
)
def test_an_expired_job_that_never_began_says_what_it_waited_for(web: Web, values: dict[str, Any], why: str) -> None:
    job_id = web.accepted("quote")
    if values:
        web.database.execute(update(downstreams).values(**values))
    page, row = expire(web, job_id)
    assert f"Why it expired No attempt was begun: it waited {why}. It had 5 min" in page
    assert f"after 5 min, waited {why}" in row


def test_an_expired_job_says_that_no_worker_was_there(web: Web) -> None:
    job_id = web.accepted()
    web.database.execute(update(workers).values(seen_until=database_now(-AGO)))
    page, row = expire(web, job_id)
    assert "it waited for a worker: none that runs it was there." in page
    assert "none that runs it was there" in row


def test_an_expired_job_says_how_far_its_attempt_was(web: Web) -> None:
    job_id = web.accepted()
    web.store.workers.progress(web.claim(job_id), Progress(done=2, total=5), lease=LEASE)
    page, row = expire(web, job_id)
    assert "Attempt 1 of 3 was under way, at 40 % (2 of 5)." in page
    assert "after 5 min, under way" in row


def test_an_expired_job_says_what_its_last_attempt_failed_of(web: Web) -> None:
    job_id = web.accepted()
    rained = {"code": "operation_error", "message": "it rained"}
    assert web.store.workers.try_again(
        web.claim(job_id), rained, after=timedelta(0), is_spent=False, blames_downstream=False, call_seconds=None
    )
    page, _ = expire(web, job_id)
    assert "After 1 of 3 attempts it waited for its turn at the downstream's pace." in page
    assert "Last attempt: operation error it rained" in page


def test_each_line_of_an_error_stands_by_itself_and_a_long_one_is_folded(web: Web) -> None:
    job_id = web.accepted("quote")
    lines = ["see https://partner.example/errors?id=1&lang=en", "", "field 'sku' is missing", "\u202eevil", "x" * 500]
    error = {"code": "downstream_error", "message": "\n".join(lines), "downstream_status": 400, "downstream_body": "{}"}
    web.store.workers.fail(web.claim(job_id), error, call_seconds=None)
    now = part_of(web.client.get(f"/jobs/{job_id}"), "now")
    beginning, whole = re.findall(r'<p class="message">(.*?)</p>', now, re.DOTALL)
    assert len(beginning) < 500
    assert beginning.endswith("…")
    assert whole.split("\n")[0] == "see https://partner.example/errors?id=1&amp;lang=en"
    assert whole.split("\n")[2] == "field &#39;sku&#39; is missing"
    assert "⟨U+202E⟩evil" in whole
    assert "All that it says" in now
    assert "What the downstream said (400)" in now


def test_each_fault_of_a_form_stands_by_itself(web: Web) -> None:
    answer = send(web, "/downstreams/sample/rate", rate="fast, 0/s, 5/s")
    assert answer.status_code == 422
    page = answer.get_data(as_text=True)
    faults = re.findall(r"<li>(.*?)</li>", page[page.index("<main") :], re.DOTALL)
    assert len(faults) == 2, faults
    assert "fast" in faults[0]
    assert "0/s" in faults[1]


@on_both
def test_jobs_are_counted_by_state(web: Web) -> None:
    """Whether a scheduler has counted those that have ended, or not yet."""
    for state, number in zip(State, (3, 1, 2, 2, 1, 1), strict=True):
        for _ in range(number):
            web.job_in(state)
    assert counts(web) == {
        "Queued": "3",
        "Running": "1",
        "Succeeded": "2",
        "Failed": "2",
        "Expired": "1",
        "Cancelled": "1",
    }
    web.store.facts.count_final()
    web.job_in(State.CANCELLED)
    assert counts(web) == {
        "Queued": "3",
        "Running": "1",
        "Succeeded": "2",
        "Failed": "2",
        "Expired": "1",
        "Cancelled": "2",
    }


@on_both
def test_when_more_ended_than_are_counted_at_once_it_says_from_when_the_numbers_are(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "MOST_COUNTED", 2)
    web.job_in(State.FAILED)
    web.store.facts.count_final()
    for _ in range(3):
        web.job_in(State.SUCCEEDED)
    assert counts(web) == {
        "Queued": "0",
        "Running": "0",
        "Succeeded": "2+",
        "Failed": "1+",
        "Expired": "0+",
        "Cancelled": "0+",
    }
    assert re.search("Jobs that have ended were counted at .*; “[+]”: more have ended since.", read(web))


def test_a_client_sees_how_many_of_its_own_jobs_are_in_each_state(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, auth="keys")
    web.declare()
    for name in ("shop", "other"):
        _, secret = KeyStore(web.database).create(name, name="", role=Role.CLIENT)
        for _ in range(2):
            answer = web.submit(headers={"Authorization": f"Bearer {secret}"})
        bearer = {"Authorization": f"Bearer {secret}"}
        assert web.client.post(f"/v1/jobs/{answer.get_json()['id']}/cancel", headers=bearer).status_code == 200
    send(web, "/sign-in", key=secret)
    assert counts(web) == {
        "Queued": "1",
        "Running": "0",
        "Succeeded": "0",
        "Failed": "0",
        "Expired": "0",
        "Cancelled": "1",
    }
    web.close()


def test_a_look_counts_no_more_jobs_however_many_there_are(web: Web) -> None:
    with asked(web.database) as seen:
        web.store.overview.count(most=1000)
    (statement,) = seen.statements
    with web.database.transaction() as connection:
        plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (0,) * statement.count("?")).all())
    assert "USING INDEX ix_jobs_finished" in plan
    assert "ix_jobs_deadline" in plan
    assert "SCAN jobs'" not in plan


def counts(web: Web) -> dict[str, str]:
    """The numbers at the top, as they are shown a second later."""
    web.app.extensions["tidegate.page"].board.refresh()
    part = part_of(web.client.get("/"), "counts")
    texts = [readable(each) for each in re.findall(r"<li>.*?</li>", part, re.DOTALL)]
    return {state: number for number, state in (text.split() for text in texts)}


def test_what_can_not_be_undone_says_how_many_and_what_before_it_is_done(web: Web) -> None:
    web.claim(web.accepted("quote"))
    ids = [web.accepted("quote") for _ in range(3)]
    web.store.samples.sample()
    # How many wait is an estimate within two seconds of a submit.
    ends = "of no client, until it is resumed. The call that is open ends as usual. Jobs whose deadline passes"
    assert re.search(f"[34] jobs wait. Nothing more goes to sample, {ends}", read(web))
    send(web, "/downstreams/sample/pause")
    assert re.search(
        "[34] jobs wait for sample. Calls begin at once, at 20/s, 10000/d; a call that has begun", read(web)
    )
    assert "This one job of quote: it will never be run. A cancelled job stays so." in read(web, f"/jobs/{ids[0]}")
    cancelled = web.job_in(State.CANCELLED)
    assert "One new job of echo with the same input is recorded, and calls echo again." in read(
        web, f"/jobs/{cancelled}"
    )
    for path in ("/", f"/jobs/{ids[0]}", f"/jobs/{cancelled}"):
        page = web.client.get(path).get_data(as_text=True)
        for form in re.finditer(r'<form method="post"', page):
            assert page.rfind("<details", 0, form.start()) > page.rfind("</details>", 0, form.start()), path


def test_the_page_calls_a_downstream_so_wherever_one_looks(web: Web) -> None:
    job_id = web.job_in(State.FAILED)
    for path in ("/", f"/jobs/{job_id}", "/?state=failed", "/docs"):
        page = web.client.get(path).get_data(as_text=True)
        assert not re.findall(r"\blanes?\b", re.sub("benchmarks/lanes", "", page)), path
        ids = Counter(re.findall(r'\sid="([^"]*)"', page))
        assert not [each for each, times in ids.items() if times > 1], path
    for file in ("page.css", "theme.css", "page.js", "parts.js", "forms.js"):
        assert "lane" not in web.client.get(f"/static/{file}", buffered=True).get_data(as_text=True)


def test_former_addresses_lead_to_the_new_ones(web: Web) -> None:
    answer = send(web, "/lanes/sample/pause")
    assert (answer.status_code, answer.headers["Location"]) == (308, "../../downstreams/sample/pause")
    assert web.client.get("/lanes/sample/rate").headers["Location"] == "../../downstreams/sample/rate"


def test_the_address_of_a_form_that_was_refused_leads_back_when_it_is_asked_for(web: Web) -> None:
    """A browser shows it while it shows why, and it is loaded again, or kept as a bookmark."""
    for act in ("pause", "resume", "rate"):
        answer = web.client.get(f"/downstreams/sample/{act}")
        assert (answer.status_code, answer.headers["Location"]) == (303, "../../#downstream-sample")
    for act in ("cancel", "retry"):
        answer = web.client.get(f"/jobs/{UNKNOWN}/{act}")
        assert (answer.status_code, answer.headers["Location"]) == (303, f"../../jobs/{UNKNOWN}")


def test_all_pages_have_one_header_and_one_style(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, auth="keys")
    _, secret = KeyStore(web.database).create("ops", name="", role=Role.OPERATOR)
    pages = {path: web.client.get(path).get_data(as_text=True) for path in ("/docs", "/sign-in")}
    send(web, "/sign-in", key=secret)
    pages |= {path: web.client.get(path).get_data(as_text=True) for path in ("/", f"/jobs/{UNKNOWN}")}
    web.close()
    heads = {_top(page) for page in pages.values()}
    assert len(heads) == 1, heads
    assert all("static/theme.css" in page for page in pages.values())


def _top(page: str) -> tuple[str, ...]:
    """Name and navigation, without how far the page lies below the root and which one is shown."""
    header = page[page.index("<header") : page.index("</nav>")]
    return tuple(re.sub(r' aria-current="page"|(\.\./)+|\./', "", header).split("\n"))


def test_without_a_script_times_say_their_zone_and_their_day_unless_it_is_today(web: Web) -> None:
    job_id = web.accepted()
    assert re.search(r">\d\d:\d\d:\d\d UTC</time>", part_of(web.client.get(f"/jobs/{job_id}"), "now"))
    web.database.execute(update(jobs).values(created_at=database_now(timedelta(days=-3))))
    web.app.extensions["tidegate.page"].board.refresh()
    for path, part in (("/", "recent"), (f"/jobs/{job_id}", "now"), (f"/jobs/{job_id}", "timeline")):
        assert re.search(r">\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC</time>", part_of(web.client.get(path), part)), path
