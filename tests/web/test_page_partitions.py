"""Partitions on the live page, without a script: a downstream's table, what operators change in it, and its card."""

import html
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from werkzeug.test import TestResponse

from tests.support.jobs import claim, submit_to_partitions
from tests.support.page import OWN, PageStream, part_of, read, send, text_of
from tests.support.statements import asked
from tests.support.waiting import wait_until
from tests.support.web import Web
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.database.schema import IMPLICIT_CLIENT, jobs, partitions
from tidegate.database.time import database_now
from tidegate.dispatch.gate import Gate
from tidegate.operations.outcome import Succeeded

OPERATIONS = """\
[downstreams.crm]
concurrency = 4
partition = "header"
each = { rate = "2/h", burst = 2, concurrency = 3 }

[downstreams.crm.partitions.strict]
order = "strict"

[downstreams.crm.partitions.free]
rate = "1000/s"
burst = 100
concurrency = 100

[downstreams.plain]
partition = "none"

[downstreams.fair]
rate = "1/h"
partition = "client"

[operations.order]
url = "http://127.0.0.1:1/order"
downstream = "crm"
timeout = "2h"
admission = false

[operations.plain]
url = "http://127.0.0.1:1/plain"
downstream = "plain"

[operations.fair]
url = "http://127.0.0.1:1/fair"
downstream = "fair"
admission = false
"""
URL = "/downstreams/crm/partitions"
HOSTILE = '"><script>alert(1)</script>'
RTL = "\N{RIGHT-TO-LEFT OVERRIDE}مرحبا <b>\N{GRINNING FACE}"
RESULT = Succeeded(content=b"1", content_type="application/json", is_json=True)
on_both = pytest.mark.both_databases("what is shown is found, counted and changed by SQL")


@pytest.fixture
def web(tmp_path: Path, database_url: str) -> Iterator[Web]:
    made = Web(tmp_path, database_url, operations_toml=OPERATIONS)
    made.declare()
    yield made
    made.close()


@pytest.fixture
def keyed(tmp_path: Path, sqlite_url: str) -> Iterator[Web]:
    made = Web(tmp_path, sqlite_url, operations_toml=OPERATIONS, auth="keys")
    made.declare()
    yield made
    made.close()


def submit(web: Web, name: str, count: int = 1, **headers: str) -> None:
    assert web.submit("order", headers={**headers, **({"Job-Partition": name} if name else {})}).status_code == 202
    submit_to_partitions(web.store, [name], lane="crm", operation="order", each=count - 1)


def rows(answer: TestResponse) -> dict[str, str]:
    """The text of each row, by the partition's key."""
    assert answer.status_code == 200, text_of(answer)
    found = re.findall(r'<tr id="partition-([^"]*)".*?</tr>', part_of(answer, "table"), re.DOTALL)
    whole = re.findall(r'<tr id="partition-[^"]*".*?</tr>', part_of(answer, "table"), re.DOTALL)
    texts = [" ".join(html.unescape(re.sub(r"<[^>]*>", " ", each)).split()) for each in whole]
    return dict(zip(map(html.unescape, found), texts, strict=True))


def row_of(web: Web, name: str, query: str = "") -> str:
    return rows(web.client.get(URL + query))[f"{IMPLICIT_CLIENT}/{name}"]


@on_both
def test_the_table_tells_what_waits_what_it_may_and_why_it_waits(web: Web) -> None:
    submit(web, "held", 5)
    submit(web, "strict", 3)
    submit(web, "free", 9)
    assert len(Gate(web.store.lanes).run_once().released) == 4

    text = row_of(web, "held")
    assert "Waiting 4" in text or "Waiting 3" in text
    assert re.search(r"Open calls [12] of 3 Rate used [12] of 2/h", text)
    assert re.search(r"Open calls 1 of 1 .* one at a time, in order", row_of(web, "strict"))
    assert list(rows(web.client.get(URL))) == [f"{IMPLICIT_CLIENT}/{name}" for name in ("free", "held", "strict")]
    assert list(rows(web.client.get(URL + "?sort=name"))) == [
        f"{IMPLICIT_CLIENT}/{name}" for name in ("free", "held", "strict")
    ]
    by_waiting = part_of(web.client.get(URL), "table")
    assert by_waiting.count("aria-sort") == 1
    assert re.search(r'aria-sort="descending"><a href="\?">Waiting', by_waiting)
    assert re.search(r'aria-sort="ascending"><a [^>]*>Partition', part_of(web.client.get(URL + "?sort=name"), "table"))


def test_each_reason_is_told(web: Web) -> None:
    submit(web, "rate", 9)
    assert len(Gate(web.store.lanes).run_once().released) == 2
    assert "its own rate" in row_of(web, "rate")
    web.database.execute(update(jobs).where(jobs.c.slot_at.is_(None)).values(run_at=database_now(timedelta(hours=1))))
    assert "may not run yet" in row_of(web, "rate")
    send(web, "/downstreams/crm/pause")
    assert "its downstream is paused" in row_of(web, "rate")
    send(web, URL, client=IMPLICIT_CLIENT, name="rate", paused="true")
    assert "Waits: paused" in row_of(web, "rate")
    send(web, "/downstreams/crm/resume")
    send(web, URL, client=IMPLICIT_CLIENT, name="a", paused="true")
    assert "Waits: paused" in row_of(web, "a"), "also where nothing waits"
    submit(web, "refused")
    its_row = (partitions.c.downstream == "crm", partitions.c.name == "refused")
    Gate(web.store.lanes).run_once()
    web.database.execute(update(partitions).where(*its_row).values(rests_until=database_now(timedelta(hours=1))))
    submit(web, "refused")
    assert "its downstream refused its calls" in row_of(web, "refused")
    for name in ("b", "c", "d"):
        submit(web, name)
    assert "others have their turns" in row_of(web, "b")


@on_both
def test_operators_pause_resume_and_weigh_a_partition_and_stay_where_they_were(web: Web) -> None:
    submit(web, "a", 2)
    submit(web, "b")
    page = URL + "?q=a&sort=name"
    answer = send(web, page, client=IMPLICIT_CLIENT, name="a", weight="2.5")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"../..{page}")
    assert "Weight 2.5" in row_of(web, "a")
    assert "Back to 1" in row_of(web, "a")
    assert "71.4 %" in row_of(web, "a")
    send(web, URL, client=IMPLICIT_CLIENT, name="a", declared="1", weight="7")
    assert "Weight 1 " in row_of(web, "a")
    assert "Back to" not in row_of(web, "a")
    assert send(web, URL, client=IMPLICIT_CLIENT, name="a", paused="true").status_code == 303
    assert [
        job for job in Gate(web.store.lanes).run_once().released if web.row(job.job_id).partition.endswith("/a")
    ] == []
    assert "Resume a" in row_of(web, "a")
    send(web, URL, client=IMPLICIT_CLIENT, name="a", paused="false")
    assert len(Gate(web.store.lanes).run_once().released) == 2


@pytest.mark.parametrize("weight", ["", "0", "-1", "much", "nan", "1e9", "<b>"])
def test_a_weight_that_can_not_be_changes_nothing_and_is_explained(web: Web, weight: str) -> None:
    submit(web, "a")
    answer = send(web, URL, client=IMPLICIT_CLIENT, name="a", weight=weight)
    assert (answer.status_code, answer.mimetype) == (422, "text/html")
    assert "<b>" not in answer.get_data(as_text=True)
    assert "Weight 1 " in row_of(web, "a")


def test_what_no_form_sends_is_refused(web: Web) -> None:
    for fields in ({"name": "a b"}, {"name": "x" * 65}, {"name": "\0"}, {"client": "a/b"}, {"client": "nobody"}):
        answer = send(web, URL, **{"client": IMPLICIT_CLIENT, "name": "a", **fields}, weight="2")
        assert (answer.status_code, answer.mimetype) == (400, "text/html"), fields
    assert rows(web.client.get(URL)) == {}
    assert web.client.post(URL, data={"name": "a", "paused": "true"}, headers={}).status_code == 403
    for query in ("?cursor=x", "?sort=size", f"?q={'x' * 101}"):
        assert web.client.get(URL + query).status_code == 400, query
    assert web.client.get("/downstreams/nothing/partitions").status_code == 404
    assert web.client.get("/downstreams/a%00b/partitions").status_code == 404
    assert web.client.get("/downstreams/plain/partitions").status_code == 409
    assert web.client.get("/downstreams/nothing/partitions/live").status_code == 404


def test_names_that_callers_choose_are_only_text(web: Web) -> None:
    names = (HOSTILE, "x" * 64, "", "a/b&c=%2F?#+", "{{7*7}}")
    for name in names:
        submit(web, name, 2)
    answer = web.client.get(URL)
    page = answer.get_data(as_text=True)
    assert "<script>alert" not in page
    assert {*rows(answer)} == {
        f"{IMPLICIT_CLIENT}/{each}" for each in (HOSTILE, "x" * 64, "", "a/b&c=%2F?#+", "{{7*7}}")
    }
    assert "without a name" in row_of(web, "")
    assert "{{7*7}}" in row_of(web, "{{7*7}}")
    assert send(web, URL, client=IMPLICIT_CLIENT, name=HOSTILE, paused="true").status_code == 303
    assert "paused" in row_of(web, HOSTILE)
    web.store.samples.sample()
    web.app.extensions["tidegate.page"].board.refresh()
    assert "<script>alert" not in web.client.get("/").get_data(as_text=True)


@on_both
def test_partitions_are_found_by_any_part_of_their_name(web: Web) -> None:
    for name in ("Big-Co", "bigger", "small", "100%", "a_b"):
        submit(web, name)
    for sought, found in (("big", ["Big-Co", "bigger"]), ("SMALL", ["small"]), ("%", ["100%"]), ("_", ["a_b"])):
        answer = web.client.get(URL, query_string={"q": sought, "sort": "name"})
        assert list(rows(answer)) == [f"{IMPLICIT_CLIENT}/{name}" for name in found]
    text = text_of(web.client.get(URL, query_string={"q": "<none>\0"}))
    assert "has “<none>␀” in its name" in text


def test_pages_follow_each_other(web: Web) -> None:
    names = [f"p{number:02}" for number in range(53)]
    for some in (names, names[:50]):
        submit_to_partitions(web.store, some, lane="crm", operation="order")
    for sort in ("waiting", "name"):
        first = web.client.get(f"{URL}?sort={sort}&q=p")
        following = re.search(r'<a href="([^"]*)">Next page', part_of(first, "table"))
        assert following
        second = web.client.get(URL + html.unescape(following[1]))
        assert len(rows(first)) == 50
        assert list(rows(second)) == [f"{IMPLICIT_CLIENT}/p{number}" for number in (50, 51, 52)]
        assert "Next page" not in text_of(second)
        assert "First page" in text_of(second)


def signed_in(web: Web, client: str, role: Role) -> None:
    web.client.delete_cookie("tidegate_session")
    _, secret = KeyStore(web.database).create(client, name="", role=role)
    assert web.client.post("/sign-in", data={"key": secret}, headers=OWN).status_code == 303


def test_clients_are_told_by_name_and_only_operators_look(keyed: Web) -> None:
    keys = KeyStore(keyed.database)
    for client in (RTL, "acme"):
        _, secret = keys.create(client, name="", role=Role.CLIENT)
        for operation in ("fair", "order"):
            headers = {"Authorization": f"Bearer {secret}", **({"Job-Partition": "k"} if operation == "order" else {})}
            assert keyed.submit(operation, headers=headers).status_code == 202
    _, secret = keys.create("acme", name="", role=Role.CLIENT, names_shared=True)
    keyed.submit("order", headers={"Authorization": f"Bearer {secret}", "Job-Partition": "k"})
    assert keyed.client.get(URL, headers={"Accept": "text/html"}).status_code == 303, "to the sign-in"
    signed_in(keyed, "acme", Role.CLIENT)
    assert keyed.client.get(URL).status_code == 403
    assert send(keyed, URL, client="", name="k", paused="true").status_code == 403
    assert "with waiting jobs" not in read(keyed)

    signed_in(keyed, "boss", Role.OPERATOR)
    keyed.store.samples.sample()
    text = text_of(keyed.client.get("/downstreams/fair/partitions"))
    assert "acme" in text
    assert "⟨U+202E⟩مرحبا <b>\N{GRINNING FACE}" in text
    assert "<b>" not in keyed.client.get("/downstreams/fair/partitions").get_data(as_text=True)
    found = sorted(rows(keyed.client.get(URL)).values())
    assert [each.split(" Waiting")[0] for each in found] == [
        "k of acme",
        "k of all",
        "k of ⟨U+202E⟩مرحبا <b>\N{GRINNING FACE}",
    ]
    assert len(rows(keyed.client.get(URL, query_string={"q": "مرحبا"}))) == 1
    (whose,) = (key for key, row in rows(keyed.client.get("/downstreams/fair/partitions")).items() if "acme" in row)
    send(keyed, "/downstreams/fair/partitions", client=whose[:-1], name="", weight="3")
    assert "Weight 3" in rows(keyed.client.get("/downstreams/fair/partitions"))[whose]
    keyed.app.extensions["tidegate.page"].board.refresh()
    assert "2 with waiting jobs" in read(keyed)


@on_both
def test_the_card_tells_the_busiest_and_the_plot_is_stacked_by_those_whose_calls_ended(web: Web) -> None:
    board = web.app.extensions["tidegate.page"].board
    for name, count in (("a", 2), ("b", 2), ("free", 30), ("c", 1)):
        submit(web, name, count)
    web.store.samples.sample()
    board.refresh()
    text = read(web)
    assert "free 30 wait" in text
    assert "4 with waiting jobs" in text

    def is_stacked() -> bool:
        submit(web, "free", 2)  # for as long as it takes
        for job in Gate(web.store.lanes).run_once().released[:2]:
            claimed = claim(web.store, job)
            assert claimed
            assert web.store.workers.succeed(claimed, RESULT, call_seconds=None)
        board.refresh()
        return 'class="of-3"' in part_of(web.client.get("/"), "downstreams")

    wait_until(is_stacked, description="the plot has two points with calls that ended")
    page = part_of(web.client.get("/"), "downstreams")
    assert "swatch of-1" in page
    assert re.search(r"swatch of-3.*?free.*?[1-9][0-9]? %.*? wait", page, re.DOTALL)


def test_a_refresh_of_the_table_and_of_the_overview_reads_no_more_however_many_partitions_there_are(web: Web) -> None:
    def cost() -> tuple[int, int, int]:
        web.store.samples._partitions._rests_until.clear()
        web.store.samples.sample()
        board = web.app.extensions["tidegate.page"].board
        board.refresh()
        web.let_counts_be_due()
        with asked(web.database) as seen:
            size = len(web.client.get("/").get_data())
            board.refresh()
            web.client.get("/")
        stream = PageStream(web, URL + "/live")
        stream.next("parts")
        submit(web, "p0")
        with asked(web.database) as again:
            stream.next("parts")
        stream.close()
        whole = [each for each in again.statements if "GROUP BY jobs.partition" in each and " IN " not in each]
        assert not whole
        assert not [each for each in again.statements if "RECURSIVE" in each]
        own = [each for each in seen.statements if "MATERIALIZED" not in each]
        assert len(seen.statements) - len(own) <= 50, "the partition of each job in the list, once in ten seconds"
        return len(own), len(again.statements), size // 1000

    submit_to_partitions(web.store, [f"p{number}" for number in range(60)], lane="crm", operation="order")
    before = cost()
    submit_to_partitions(web.store, [f"more{number}" for number in range(400)], lane="crm", operation="order")
    for few, many in zip(before, cost(), strict=True):
        assert many <= 1.1 * few + 1


def test_the_stream_of_a_table_follows_what_is_shown(web: Web) -> None:
    submit(web, "a")
    submit(web, "b")
    stream = PageStream(web, URL + "/live?q=a")
    assert stream.next("parts")["table"].count("<tr id=") == 1
    submit(web, "a")
    submit(web, "another")
    told = stream.next("parts")["table"]
    assert '<span class="label">Waiting </span><span>2<' in told
    assert "another" not in told
    stream.close()
