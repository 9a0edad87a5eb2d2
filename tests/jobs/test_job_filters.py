"""The filters of the list: each alone, together, at their edges, and what a request reads however rare the match is."""

import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from sqlalchemy import event, insert, text, update

from tests.support.statements import asked
from tests.support.web import Web, assert_is_problem
from tidegate import clock
from tidegate.clock import EPOCH
from tidegate.database.schema import IMPLICIT_CLIENT, clients, jobs
from tidegate.database.statement import required
from tidegate.database.time import database_now
from tidegate.jobs import listing
from tidegate.jobs.filter import Filter
from tidegate.operations.outcome import ErrorCode
from tidegate.states import State
from tidegate.timeformat import instant

on_both = pytest.mark.both_databases("jobs are found by SQL: filters, order, indexes")

MILLISECOND = timedelta(milliseconds=1)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SHOP = "shop"


def pages(web: Web, filters: Mapping[str, str]) -> Iterator[list[Any]]:
    """The documents, page by page."""
    url: str | None = "/v1/jobs?" + urlencode(filters)
    while url:
        answer = web.client.get(url)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        yield answer.get_json()["jobs"]
        url = answer.get_json()["next"]


def found(web: Web, **filters: str) -> list[str]:
    """The ids of all pages."""
    return [job["id"] for page in pages(web, filters) for job in page]


def add_client(web: Web, name: str = SHOP) -> None:
    """Makes a client."""
    with web.database.transaction() as connection:
        connection.execute(insert(clients).values(id=name, name=name, created_at=database_now()))


def change(web: Web, job_id: str, **values: Any) -> None:
    """Changes the job's row."""
    web.database.execute(update(jobs).where(jobs.c.id == job_id).values(**values))


def row(created_at: datetime, number: int, state: State = State.SUCCEEDED, **values: Any) -> dict[str, Any]:
    """A row of this instant, whose id is of the same millisecond."""
    error = json.dumps({"code": "downstream_error", "message": "no"}) if state is State.FAILED else None
    return {
        "id": str(UUID(int=(created_at - EPOCH) // MILLISECOND << 80 | 7 << 76 | 2 << 62 | number)),
        "client_id": IMPLICIT_CLIENT,
        "operation": "echo",
        "downstream": "echo",
        "queue": "io",
        "state": state,
        "created_at": created_at,
        "run_at": created_at,
        "deadline": created_at + timedelta(minutes=1),
        "finished_at": created_at + timedelta(seconds=1) if state.is_final else None,
        "percent": 100 if state is State.SUCCEEDED else 0,
        "error": error,
        "max_attempts": 1,
        **values,
    }


def record(web: Web, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts them."""
    with web.database.transaction() as connection:
        connection.execute(insert(jobs), list(rows))


# What fits


@on_both
def test_all_filters_together_find_what_a_look_at_each_job_finds(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    add_client(web)
    made = [
        web.job_in(state, operation)
        for state, operation in itertools.product([*State, State.FAILED], ("echo", "raw_echo", "quote"))
    ]
    exhausted, late = made[-1], web.accepted()
    change(web, exhausted, error=json.dumps({"code": "attempts_exhausted", "message": 'no\0{"code": "cancelled"'}))
    for number, job_id in enumerate(made):
        change(
            web,
            job_id,
            created_at=NOON + timedelta(hours=number // 2) if number % 5 else database_now(),
            client_id=SHOP if number % 3 == 1 else IMPLICIT_CLIENT,
        )
    web.pass_deadline(late)
    everything = [web.read(job_id).get_json() | {"downstream": web.row(job_id).downstream} for job_id in (*made, late)]
    monkeypatch.setattr(listing, "CLOCKS_APART", timedelta(days=3650))  # ids are of now, and these of then
    choices: dict[str, Sequence[str | None]] = {
        "state": (None, None, None, *State),
        "operation": (None, None, "echo", "quote"),
        "downstream": (None, None, "sample", "nothing"),
        "error_code": (*[None] * 8, *ErrorCode),
        "client": (None, None, SHOP, IMPLICIT_CLIENT, "nobody"),
        "created_after": (None, instant(NOON + timedelta(hours=2))),
        "created_before": (None, instant(NOON + timedelta(hours=7))),
        "limit": ("3", "200"),
    }
    every = list(itertools.product(*choices.values()))
    number_found = 0
    for values in (*random.Random(5).sample(every, 250), [None] * len(choices)):  # noqa: S311 - no secret
        filters = {name: value for name, value in zip(choices, values, strict=True) if value is not None}
        expected = sorted((job["id"] for job in everything if _fits(job, filters)), reverse=True)
        assert found(web, **filters) == expected, filters
        number_found += bool(expected)
    assert number_found > 50


def _fits(job: Mapping[str, Any], filters: Mapping[str, str]) -> bool:
    own = {**job, "error_code": (job["error"] or {}).get("code")}
    return (
        all(own[name] == value for name, value in filters.items() if name in own)
        and own["created_at"] >= filters.get("created_after", "")
        and own["created_at"] < filters.get("created_before", "3")
    )


@on_both
def test_created_after_is_the_first_instant_and_created_before_lies_behind_the_last(web: Web) -> None:
    edges = [NOON - MILLISECOND, NOON, NOON + MILLISECOND / 2, NOON + MILLISECOND]
    rows = [row(created_at, number) for number, created_at in enumerate(edges)]
    record(web, rows)
    before, at, half, after = (each["id"] for each in rows)
    at_noon, later = instant(NOON), instant(NOON + MILLISECOND)

    assert found(web, created_after=at_noon) == [after, half, at]
    assert found(web, created_before=at_noon) == [before]
    assert found(web, created_after=at_noon, created_before=later) == [half, at]
    assert found(web, created_after="2026-11-23T13:00:00.0005+01:00") == [after, half]
    assert found(web, created_before="2026-11-23t12:00:00.0005z") == [at, before]
    for job_id in (before, at, half, after):
        told = datetime.fromisoformat(web.read(job_id).get_json()["created_at"])
        assert job_id in found(web, created_after=told.isoformat()), "what a document says is an edge of its job"
        assert job_id not in found(web, created_before=told.isoformat())


@on_both
@pytest.mark.parametrize("apart", [timedelta(hours=-1), timedelta(hours=1)])
def test_ids_of_a_clock_that_is_an_hour_off_hide_no_job(web: Web, apart: timedelta) -> None:
    record(web, [row(NOON, 1) | {"id": row(NOON + apart, 1)["id"]}])
    at_noon, later = instant(NOON), instant(NOON + MILLISECOND)
    assert len(found(web, created_after=at_noon, created_before=later)) == 1


@on_both
def test_an_error_code_is_that_of_the_document_and_not_of_an_attempt_before_the_end(web: Web) -> None:
    ids = {state: web.job_in(state) for state in (State.EXPIRED, State.CANCELLED, State.FAILED)}
    for job_id in ids.values():
        change(web, job_id, error=json.dumps({"code": "downstream_error", "message": "of an attempt"}))
    assert found(web, error_code="downstream_error") == [ids[State.FAILED]]
    assert found(web, error_code="deadline_exceeded") == [ids[State.EXPIRED]]
    assert found(web, error_code="cancelled") == [ids[State.CANCELLED]]
    assert found(web, error_code="cancelled", state="failed") == []


@on_both
def test_a_job_past_its_deadline_has_its_error_code_before_anybody_saw_it(web: Web) -> None:
    job_id = web.accepted()
    web.pass_deadline(job_id)
    assert found(web, error_code="deadline_exceeded") == [job_id]


@on_both
def test_pages_of_a_filter_lose_and_repeat_none_while_others_are_submitted_and_erased(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_LOOKED_AT", 7)
    add_client(web)
    meant = [web.job_in(State.FAILED) for _ in range(9)]
    others = [web.job_in(State.FAILED) for _ in range(9)]
    for job_id in others:
        change(web, job_id, client_id=SHOP)
    seen: list[str] = []
    for page in pages(web, {"state": "failed", "downstream": "echo", "client": IMPLICIT_CLIENT, "limit": "2"}):
        seen += [job["id"] for job in page]
        web.job_in(State.FAILED)
        if others:
            assert web.client.delete(f"/v1/jobs/{others.pop()}").status_code == 204
    assert seen == meant[::-1]


@on_both
def test_a_job_that_a_sweep_expires_while_a_page_is_read_is_in_it_once(web: Web) -> None:
    ids = [web.job_in(State.EXPIRED), web.accepted()]
    web.pass_deadline(ids[1])
    swept: list[int] = []

    def sweep(_: object, __: object, statement: str, *more: object) -> None:
        if " AS fits" in statement and not swept:
            swept.append(0)
            swept.append(web.store.upkeep.expire(10))

    event.listen(web.database.engine, "after_cursor_execute", sweep)
    assert found(web, state="expired") == ids[::-1]
    event.remove(web.database.engine, "after_cursor_execute", sweep)
    assert swept
    assert web.row(ids[1]).state == "expired"


def test_a_deadline_that_passes_while_a_page_is_read_ends_no_list(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked whether a job is late to find it, and again when it is read: it may be so only then."""
    ids = [web.accepted() for _ in range(4)]
    now, asks = clock.now(), itertools.count(1)
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(days=9 if next(asks) == 2 else 0))
    wanted, seen = Filter(states=(State.QUEUED,), limit=1), []
    while True:
        page = web.store.callers.list(wanted)
        seen += [job.id for job in page.jobs]
        if page.before_id is None:
            break
        wanted = replace(wanted, before_id=page.before_id)
    assert seen == ids[-2::-1]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("?error_code=", "error_code"),
        ("?error_code=nothing", "error_code"),
        ("?error_code=CANCELLED", "error_code"),
        ("?downstream=%00", "downstream"),
        ("?client=a%00", "client"),
        ("?created_after=", "created_after"),
        ("?created_after=yesterday", "created_after"),
        ("?created_after=2026-11-23", "created_after"),
        ("?created_after=2026-11-23T12:00:00", "created_after"),
        ("?created_after=2026-11-23T12:00:00+01:00", "created_after"),  # a blank: + is %2B in a URL
        ("?created_after=1795435200", "created_after"),
        ("?created_before=1795435200.5", "created_before"),
        ("?created_before=2026-11-31T12:00:00Z", "created_before"),
        ("?created_before=0001-01-01T00:00:00%2B01:00", "created_before"),
        ("?created_before=9999-12-31T23:59:59-01:00", "created_before"),
        ("?created_after=2026-11-23T12:00:00Z&created_before=2026-11-23T12:00:00Z", "created_before"),
        ("?created_after=2026-11-23T12:00:00Z&created_before=2026-11-23T12:59:59%2B01:00", "created_before"),
        ("?created_after=2026-11-23T12:00:00Z&created_after=2026-11-23T12:00:00Z", "created_after"),
    ],
)
def test_a_filter_that_can_not_be_read_is_a_400_that_names_it(web: Web, query: str, named: str) -> None:
    document = assert_is_problem(web.client.get(f"/v1/jobs{query}"), 400, "invalid-query")
    assert document["detail"].startswith(f"{named}: ")
    assert "Value error" not in document["detail"]


@on_both
@pytest.mark.parametrize("bound", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59.999999Z"])
def test_an_instant_of_any_year_is_a_bound(web: Web, bound: str) -> None:
    job_id = web.accepted()
    is_past = bound < "2"
    assert found(web, created_after=bound) == ([job_id] if is_past else [])
    assert found(web, created_before=bound) == ([] if is_past else [job_id])


def test_every_document_names_its_client(web: Web) -> None:
    job_id = web.accepted()
    add_client(web)
    change(web, job_id, client_id=SHOP)
    assert web.read(job_id).get_json()["client"] == SHOP
    assert [job["client"] for page in pages(web, {}) for job in page] == [SHOP]


# What a request reads


MISLEADING = 20_000
THEN = 30_000


def misled(web: Web) -> dict[str, Any]:
    """The row that is meant, the oldest of many jobs.

    The statistics are of a time when every other job was the shop's, and when every other one had failed.
    """
    add_client(web)
    lately = NOON + timedelta(days=2)
    of_shop = [{"client_id": SHOP} if number % 2 else {} for number in range(MISLEADING)]
    oldest = row(NOON, 0, State.FAILED, client_id=SHOP, operation="rare", downstream="rare")
    record(
        web,
        [
            oldest,
            *(
                row(NOON + timedelta(seconds=1 + number), number, State.FAILED if number % 3 else State.SUCCEEDED, **of)
                for number, of in enumerate(of_shop)
            ),
        ],
    )
    for statement in ("ANALYZE",) if web.database.is_sqlite else ("VACUUM (ANALYZE)",):
        web.database.execute(text(statement))
    record(web, [row(lately + timedelta(seconds=number), number) for number in range(THEN)])
    return oldest


QUERIES: list[dict[str, str]] = [
    {"operation": "rare"},
    {"downstream": "rare"},
    {"client": SHOP, "operation": "rare"},
    {"client": SHOP, "state": "failed", "downstream": "rare"},
    {"state": "failed", "operation": "rare"},
    {"error_code": "downstream_error", "operation": "rare"},
    {"error_code": "downstream_error", "client": SHOP, "downstream": "rare"},
    {"created_before": instant(NOON + MILLISECOND)},
    {"created_before": instant(NOON + MILLISECOND), "client": SHOP},
    {"created_before": instant(NOON + MILLISECOND), "client": SHOP, "state": "failed"},
    {"created_after": instant(NOON), "created_before": instant(NOON + MILLISECOND), "error_code": "downstream_error"},
]


@pytest.mark.postgresql
def test_no_request_reads_more_than_10000_rows_on_postgresql(tmp_path: Path, postgresql_url: str) -> None:
    web = Web(tmp_path, postgresql_url)
    meant = misled(web)["id"]
    for filters in QUERIES:
        seen, before = [], rows_read(web)
        for page in pages(web, {**filters, "limit": "200"}):
            read = rows_read(web) - before
            assert read <= listing.MOST_LOOKED_AT + 50, filters
            seen += [job["id"] for job in page]
            before = rows_read(web)
        assert seen == [meant], filters
    web.close()


@pytest.mark.postgresql
def test_jobs_that_nobody_expired_for_long_are_no_more_to_read(tmp_path: Path, postgresql_url: str) -> None:
    """The scheduler is away, and all that was queued is past its deadline."""
    web = Web(tmp_path, postgresql_url)
    add_client(web)
    rows = [row(NOON + timedelta(seconds=number), number, State.QUEUED) for number in range(12_000)]
    record(web, [rows[0] | {"client_id": SHOP}, *rows[1:]])
    for filters, number in (({"state": "expired"}, 12_000), ({"state": "expired", "client": SHOP}, 1)):
        seen, before = 0, rows_read(web)
        for page in pages(web, {**filters, "limit": "200"}):
            assert rows_read(web) - before <= listing.MOST_LOOKED_AT + 50
            seen += len(page)
            before = rows_read(web)
        assert seen == number
    web.close()


@on_both
@pytest.mark.parametrize("most", [0, 3, 100])
def test_every_expired_job_comes_once_by_whatever_way(web: Web, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(listing, "MOST_LATE", most)
    ids = [web.job_in(State.EXPIRED)]
    for _ in range(5):
        ids.append(web.accepted())
        web.pass_deadline(ids[-1])
        ids.append(web.job_in(State.EXPIRED))
        web.accepted()
    assert found(web, state="expired", limit="2") == found(web, error_code="deadline_exceeded") == ids[::-1]


def test_on_sqlite_no_list_sorts_or_scans_the_table(web: Web) -> None:
    """SQLite tells its plan and not what it read: each search of `jobs` is by an index in whose order the rows come."""
    record(web, [row(NOON + timedelta(seconds=number), number) for number in range(100)])
    expected = {
        (): "sqlite_autoindex_jobs_1 (id>? AND id<?)",
        ("client",): "ix_jobs_client (client_id=? AND id>? AND id<?)",
        ("failed",): "ix_jobs_unsuccessful (state=? AND id>? AND id<?)",
        ("client", "failed"): "ix_jobs_unsuccessful_client (client_id=? AND state=? AND id>? AND id<?)",
    }
    for filters in QUERIES:
        with asked(web.database) as seen, plans(web) as plan:
            web.client.get("/v1/jobs?" + urlencode(filters))
        assert len(seen.statements) == 1, "between two statements rows may be erased"
        is_failed = "state" in filters or "error_code" in filters
        index = expected[(*(["client"] if "client" in filters else []), *(["failed"] if is_failed else []))]
        searches = {line for line in plan if " jobs " in line}
        assert searches == {f"SEARCH jobs USING INDEX {index}", f"SEARCH jobs USING COVERING INDEX {index}"}, filters


@contextmanager
def plans(web: Web) -> Iterator[list[str]]:
    """SQLite's plans of all that the database is asked within it."""
    lines: list[str] = []

    def explain(connection: Any, _: object, statement: str, parameters: Any, *more: object) -> None:
        if statement.startswith("SELECT"):
            driver = connection.connection.driver_connection
            lines.extend(line[3] for line in driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    event.listen(web.database.engine, "before_cursor_execute", explain)
    try:
        yield lines
    finally:
        event.remove(web.database.engine, "before_cursor_execute", explain)


def rows_read(web: Web) -> int:
    """By all connections: rows by whole tables, and rows by their indexes.

    What a connection did is told when it is idle, outside of a transaction, and only once a second unless it must.
    """
    for statement in ("SELECT pg_stat_force_next_flush()", "SELECT 1"):
        web.database.execute(text(statement))
    return int(required(web.database.fetch_one(text(_ROWS_READ)))[0])


_ROWS_READ = "SELECT coalesce(sum(seq_tup_read), 0) + coalesce(sum(idx_tup_fetch), 0) FROM pg_stat_user_tables"
