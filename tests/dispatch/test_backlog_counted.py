"""What was submitted since the sample counts, whichever process took it and however old the sample is: at the door, in
positions and estimates, and for `max_backlog`."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, insert, select, text, type_coerce, update

from tests.support.statements import asked
from tests.support.web import LEASE, Web, assert_is_problem
from tidegate.database.schema import IMPLICIT_CLIENT, clients, jobs, samples
from tidegate.database.time import database_now
from tidegate.dispatch import lane_cache
from tidegate.dispatch.backlog import MOST_ROWS
from tidegate.dispatch.gate import Gate
from tidegate.intake import admission

on_both = pytest.mark.both_databases("a lane is counted by SQL, a part at a time, while others write")

OPERATIONS = """\
[downstreams.call]
{limits}
[operations.call]
url = "http://127.0.0.1:1/"
{operation}
[downstreams.other]
[operations.other]
url = "http://127.0.0.1:1/"
[operations.long]
downstream = "call"
url = "http://127.0.0.1:1/"
timeout = "24h"
admission = false
"""
DECLARED = "scheduler declared the lanes"
SAMPLED = "scheduler sampled, then fell silent"
UNDECLARED = "no scheduler ever"

Make = Callable[..., list[Web]]


@pytest.fixture(params=[DECLARED, SAMPLED, UNDECLARED])
def scheduler(request: pytest.FixtureRequest) -> str:
    """What a scheduler did before the test; none lives meanwhile."""
    return str(request.param)


@pytest.fixture
def make(tmp_path: Path, database_url: str) -> Iterator[Make]:
    """`make("rate = '1/s'", count=2)`: web processes over one database, with the lane `call` and workers for it."""
    faces: list[Web] = []

    def make(
        limits: str, operation: str = "timeout = '10m'", *, count: int = 1, scheduler: str = DECLARED, **settings: Any
    ) -> list[Web]:
        toml = OPERATIONS.format(limits=limits, operation=operation)
        made = [Web(tmp_path, database_url, operations_toml=toml, **settings) for _ in range(count)]
        faces.extend(made)
        if scheduler != UNDECLARED:
            made[0].store.limits.declare(made[0].app.extensions["tidegate"].registry.downstreams.values())
        made[0].store.heartbeats.beat("io-1", queue="io", size=1000, until=LEASE)
        if scheduler == SAMPLED:
            made[0].store.samples.sample()
        return made

    yield make
    for face in faces:
        face.close()


def fill(web: Web, lane: str, count: int, client: str = IMPLICIT_CLIENT) -> None:
    """So many jobs that wait in the lane, a microsecond apart, for longer than any count looks back."""
    numbers = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count) SELECT i FROM n) AS n"
    number = "printf('%032x', i)" if web.database.is_sqlite else "CAST(lpad(to_hex(i), 32, '0') AS uuid)"
    columns = "id, client_id, operation, downstream, queue, created_at, run_at, deadline, max_attempts"
    values = f"{number}, :client, 'call', :lane, 'io', :at + i, :at + i, :at + 90000000000, 5"
    with web.database.transaction() as connection:
        now = connection.execute(select(type_coerce(database_now(), BigInteger))).scalar_one()
        connection.execute(
            text(f"INSERT INTO jobs ({columns}) SELECT {values} FROM {numbers}"),  # noqa: S608 - nothing from outside
            {"count": count, "client": client, "lane": lane, "at": now - 10_000_000 - count},
        )


def bulk(web: Web, items: int | list[dict[str, Any]], operation: str = "call") -> list[dict[str, Any]]:
    """What became of each job of a bulk submit."""
    sent = [{"input": number} for number in range(items)] if isinstance(items, int) else items
    response = web.client.post(f"/v1/operations/{operation}/jobs/bulk", json=sent)
    assert response.status_code == 202, response.get_data(as_text=True)
    answers: list[dict[str, Any]] = response.get_json()["jobs"]
    return answers


def taken(answers: list[dict[str, Any]]) -> int:
    """How many of them were let in; those come first."""
    statuses = [answer["status"] for answer in answers]
    assert set(statuses) <= {202, 429, 503}
    assert statuses == sorted(statuses)
    return statuses.count(202)


def positions(answers: list[dict[str, Any]]) -> list[int]:
    """As told in the answers of a bulk submit."""
    return [answer["job"]["waiting"]["position"] for answer in answers]


def age(web: Web, seconds: float) -> None:
    """Lets so much time pass for all that is recorded."""
    for table, columns in (("jobs", ("created_at", "run_at", "deadline")), ("samples", ("taken_at",))):
        moved = ", ".join(f"{column} = {column} - {int(seconds * 1e6)}" for column in columns)
        web.database.execute(text(f"UPDATE {table} SET {moved}"))  # noqa: S608 - nothing from outside


def instant(told: str) -> datetime:
    """As documents have it."""
    return datetime.fromisoformat(told).astimezone(UTC)


# The door


def test_bulk_submits_to_several_processes_are_let_in_as_far_as_they_can_be_done(make: Make, scheduler: str) -> None:
    webs = make("rate = '240/m'", "timeout = '1m'", count=2, scheduler=scheduler)
    fill(webs[0], "other", 20_000)
    let_in = [taken(bulk(web, 1000)) for web in (*webs, *webs)]
    assert let_in[0] == pytest.approx(240, abs=3)
    assert sum(let_in) == pytest.approx(240, abs=4)


def test_single_submits_to_several_processes_are_let_in_as_far_as_they_can_be_done(make: Make, scheduler: str) -> None:
    webs = make("rate = '1/s'", "timeout = '20s'", count=3, scheduler=scheduler)
    statuses = [web.submit("call").status_code for _ in range(20) for web in webs]
    assert statuses.count(202) == pytest.approx(21, abs=2)
    assert statuses == sorted(statuses)


def test_a_bulk_of_one_process_is_known_to_a_single_submit_of_another(make: Make, scheduler: str) -> None:
    first, second = make("rate = '1/s'", "timeout = '1m'", count=2, scheduler=scheduler)
    assert second.submit("call").status_code == 202, "it has counted the lane"
    bulk(first, 50)  # takes longer than a count is blindly believed
    answer = second.submit("call", headers={"Job-Timeout": "30"})
    document = assert_is_problem(answer, 503, "cannot-finish-in-time")
    finish = instant(document["earliest_finish"]) - first.store.callers.now()
    assert finish == pytest.approx(timedelta(seconds=51), abs=timedelta(seconds=2))


def test_the_jobs_of_a_bulk_that_are_refused_are_told_when_one_more_could_be_done(make: Make, scheduler: str) -> None:
    (web,) = make("rate = '1/s'", "timeout = '10s'", scheduler=scheduler)
    answers = bulk(web, 30)
    refused = answers[taken(answers) :]
    assert {answer["problem"]["type"] for answer in refused} == {"urn:tidegate:problem:cannot-finish-in-time"}
    assert len({answer["problem"]["earliest_finish"] for answer in refused}) == 1, "each of them would be the next"
    finish = instant(refused[0]["problem"]["earliest_finish"]) - web.store.callers.now()
    assert finish == pytest.approx(timedelta(seconds=11), abs=timedelta(seconds=2))
    assert {answer["retry_after"] for answer in refused} <= {1, 2}


def test_each_job_of_a_bulk_is_judged_by_its_own_timeout(make: Make) -> None:
    (web,) = make("rate = '1/s'", "timeout = '10m'")
    answers = bulk(web, [{"input": number, "timeout": 5 if number % 2 else 60} for number in range(40)])
    short = [answer["status"] for answer in answers[1::2]]
    assert short[:2] == [202, 202]
    assert set(short[4:]) == {503}
    assert {answer["status"] for answer in answers[::2]} == {202}


def test_all_or_none_counts_the_jobs_of_its_own_request(make: Make) -> None:
    (web,) = make("rate = '1/s'", "timeout = '10s'")
    url = "/v1/operations/call/jobs/bulk?all_or_none=true"
    refused = web.client.post(url, json=[{"input": number} for number in range(30)])
    assert_is_problem(refused, 503, "cannot-finish-in-time")
    assert web.count() == 0
    assert web.client.post(url, json=[{"input": number} for number in range(10)]).status_code == 202
    assert taken(bulk(web, 10)) <= 2, "what was refused takes no room, and what was recorded does"


@pytest.fixture
def asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if some time had passed since the last refusal."""
    monkeypatch.setattr(admission, "_REFUSED_FOR_SECONDS", 0.0)
    monkeypatch.setattr(admission, "_REFUSED_FOR_COUNTS", 0.0)


@pytest.mark.usefixtures("asked_again_at_once")
def test_what_was_released_or_cancelled_since_makes_room(make: Make) -> None:
    first, second = make("rate = '60/m'", "timeout = '21s'", count=2)
    ids = [answer["job"]["id"] for answer in bulk(first, 20)]
    assert second.submit("call").status_code == 202
    assert second.submit("call", headers={"Job-Timeout": "19"}).status_code == 503
    for job_id in ids[5:]:
        first.client.post(f"/v1/jobs/{job_id}/cancel")
    assert second.submit("call", headers={"Job-Timeout": "19"}).status_code == 202
    lane_released(first)
    assert first.submit("call", headers={"Job-Timeout": "8"}).status_code == 202


def lane_released(web: Web) -> None:
    """The gate let some go."""
    assert Gate(web.store.lanes).run_once().released


@on_both
def test_requests_that_come_together_take_each_others_room_into_account(make: Make) -> None:
    (web,) = make("rate = '1/s'", "timeout = '20s'")
    let_in: list[int] = []
    threads = [threading.Thread(target=lambda: let_in.append(taken(bulk(web, 200)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(let_in) == pytest.approx(21, abs=2)


def test_jobs_for_later_are_not_before_those_for_now(make: Make, scheduler: str) -> None:
    first, second = make("rate = '1/s'", "timeout = '10m'", count=2, scheduler=scheduler)
    later = (first.store.callers.now() + timedelta(minutes=5)).isoformat()
    for web in (first, second) * 15:
        assert web.submit("call", headers={"Job-Not-Before": later}).status_code == 202
    assert second.submit("call", headers={"Job-Timeout": "5"}).status_code == 202
    first.app.extensions["tidegate"].lanes.views(fresh=True)
    time.sleep(0.4)  # it goes by what it saw half a second ago; the instant that a job asks for is none of that
    answer = first.submit("call", headers={"Job-Not-Before": later, "Job-Timeout": "310"})
    assert_is_problem(answer, 503, "cannot-finish-in-time")


# max_backlog


def test_max_backlog_holds_whoever_took_the_jobs_and_however_long_ago(make: Make, scheduler: str) -> None:
    webs = make("", count=2, scheduler=scheduler, max_backlog=10)
    statuses = []
    for number in range(40):
        statuses.append(webs[number % 2].submit("call").status_code)
        if not number % 5:
            age(webs[0], 10)
    assert statuses == [202] * 10 + [429] * 30


def test_max_backlog_holds_for_bulk_submits(make: Make, scheduler: str) -> None:
    first, second = make("", count=2, scheduler=scheduler, max_backlog=100)
    assert [taken(bulk(web, 70)) for web in (first, second, first)] == [70, 30, 0]
    detail = bulk(second, 1)[0]["problem"]["detail"]
    assert "100 of your jobs" in detail


@on_both
def test_max_backlog_counts_each_client_for_itself_in_a_deep_lane(make: Make) -> None:
    first, second = make("", count=2, max_backlog=10)
    with first.database.transaction() as connection:
        connection.execute(insert(clients).values(id="other", name="other", created_at=database_now()))
    fill(first, "call", 3_000, client="other")
    first.store.samples.sample()
    statuses = [web.submit("call").status_code for _ in range(10) for web in (first, second)]
    assert statuses == [202] * 10 + [429] * 10


@pytest.mark.usefixtures("asked_again_at_once")
def test_what_went_out_of_a_lane_that_nobody_samples_makes_room(make: Make) -> None:
    (web,) = make("", max_backlog=3)
    for _ in range(4):
        assert [web.submit("call").status_code for _ in range(4)] == [202] * 3 + [429]
        age(web, 1)
        lane_released(web)


# Positions and estimates


def test_each_job_of_a_bulk_has_a_position_and_a_start_of_its_own(make: Make, scheduler: str) -> None:
    (web,) = make("rate = '600/m'", scheduler=scheduler if scheduler != UNDECLARED else DECLARED)
    began = time.monotonic()
    answers = bulk(web, 400)
    assert positions(answers) == list(range(400))
    starts = [instant(answer["job"]["waiting"]["estimated_start"]) for answer in answers]
    assert [pair for pair in enumerate(itertools.pairwise(starts)) if not pair[1][0] < pair[1][1]] == []
    took = time.monotonic() - began  # the beginning is not before now, and the end moves on while nothing goes out
    assert 39.8 - took <= (starts[-1] - starts[0]).total_seconds() <= 40 + took
    for rank in (0, 100, 300):
        assert rank / 10 <= answers[rank]["retry_after"] <= 1.1 * (rank / 10 + took) + 2
    read = [web.read(answer["job"]["id"]).get_json()["waiting"]["position"] for answer in answers]
    assert read == list(range(400))


def test_jobs_that_come_together_are_told_starts_one_after_the_other_however_old_the_last_count(make: Make) -> None:
    (web,) = make("rate = '600/m'")
    web.submit("call")
    time.sleep(0.4)  # the lane was looked at before, and is not again for these
    starts = [instant(web.submit("call").get_json()["waiting"]["estimated_start"]) for _ in range(4)]
    gaps = [(later - first).total_seconds() for first, later in itertools.pairwise(starts)]
    # Documents have whole milliseconds, so each end of a gap is rounded.
    assert gaps == pytest.approx([0.1] * 3, abs=0.0021)


def test_bulks_of_two_processes_stand_behind_each_other(make: Make) -> None:
    first, second = make("rate = '10/s'", count=2)
    fill(first, "other", 20_000)
    told = [positions(bulk(web, 50)) for web in (first, second, first)]
    assert told == [list(range(begin, begin + 50)) for begin in (0, 50, 100)]


def test_replays_in_a_bulk_keep_their_place_and_take_none(make: Make) -> None:
    (web,) = make("rate = '10/s'")
    before = bulk(web, [{"input": number, "idempotency_key": f"k{number}"} for number in range(5)])
    mixed = bulk(web, [{"input": number, "idempotency_key": f"k{number}"} for number in range(10)])
    assert positions(before) == list(range(5))
    assert positions(mixed) == list(range(10))


def test_operations_of_one_downstream_stand_in_one_line(make: Make) -> None:
    (web,) = make("rate = '10/s'")
    assert positions(bulk(web, 5)) == [0, 1, 2, 3, 4]
    assert positions(bulk(web, 5, "long")) == [5, 6, 7, 8, 9]
    assert positions(bulk(web, 3, "other")) == [0, 1, 2]


def test_single_submits_in_quick_succession_stand_behind_each_other(make: Make, scheduler: str) -> None:
    first, second = make("rate = '10/s'", count=2, scheduler=scheduler if scheduler != UNDECLARED else DECLARED)
    told = [first.submit("call").get_json() for _ in range(30)]
    assert [document["waiting"]["position"] for document in told] == list(range(30))
    other = [second.submit("call").get_json() for _ in range(30)]
    assert [document["waiting"]["position"] for document in other] == list(range(30, 60))
    again = [first.read(document["id"]).get_json()["waiting"]["position"] for document in told]
    assert again == list(range(30))


@on_both
def test_jobs_for_the_same_later_instant_stand_behind_each_other_and_behind_those_for_now(make: Make) -> None:
    first, second = make("rate = '10/s'", count=2)
    later = (first.store.callers.now() + timedelta(minutes=5)).replace(microsecond=0).isoformat()
    headers = {"Job-Not-Before": later}
    ids = [web.submit("call", headers=headers).get_json()["id"] for _ in range(6) for web in (first, second)]
    now = first.submit("call").get_json()
    assert now["waiting"]["position"] == 0
    counted_anew(first)
    told = [first.read(job_id).get_json()["waiting"]["position"] for job_id in ids]
    assert told == list(range(1, 13))


def test_a_process_that_knows_nothing_of_a_lane_tells_the_position_of_an_old_job(make: Make) -> None:
    first, second = make("rate = '1/m'", "timeout = '24h'", count=2)
    ids = [answer["job"]["id"] for answer in bulk(first, 30)]
    age(first, 60)
    assert [second.read(job_id).get_json()["waiting"]["position"] for job_id in ids] == list(range(30))


@on_both
def test_positions_in_a_deep_lane_count_on_from_the_sample(make: Make) -> None:
    """Three statements' worth of jobs; what was cancelled since is still before the others until the next sample."""
    first, second = make("rate = '1000/s'", "timeout = '24h'", count=2)
    fill(first, "call", 5_000)
    first.store.samples.sample()
    told = positions(bulk(second, 100))
    assert told == list(range(5_000, 5_100))
    with asked(first.database) as cost:
        assert positions(bulk(first, 100)) == list(range(5_100, 5_200))
    assert "json" in "".join(cost.statements)
    gone = len(Gate(first.store.lanes).run_once().released)
    assert gone
    counted_anew(second)
    job_id = second.submit("call").get_json()["id"]
    assert second.read(job_id).get_json()["waiting"]["position"] == 5_200 - gone


@on_both
def test_a_lane_is_counted_in_statements_that_are_each_short(make: Make) -> None:
    """No sample, and more jobs than one statement counts."""
    (web,) = make("rate = '1000/s'", "timeout = '24h'")
    fill(web, "call", 3 * MOST_ROWS // 2)
    with asked(web.database) as cost:
        assert web.submit("call").get_json()["waiting"]["position"] == 3 * MOST_ROWS // 2
    assert len([statement for statement in cost.statements if "row_number" in statement]) == 2


def test_a_count_that_saw_a_job_before_it_was_noted_counts_it_once(make: Make) -> None:
    """As a thread that is held up after its commit, while another one counts the lane."""
    (web,) = make("rate = '10/s'")
    own = web.app.extensions["tidegate"]
    bulk(web, 3)
    ids = [str(row.id) for row in web.database.fetch_all(jobs.select())]
    own.lanes.counted("call", anew=True)
    own.lanes.submitted(*(own.jobs.get(job_id, client_id=None) for job_id in ids))
    assert web.submit("call").get_json()["waiting"]["position"] == 3


def counted_anew(web: Web) -> None:
    """As after half a second."""
    web.app.extensions["tidegate"].lanes.counted("call", anew=True)


# What it costs


def test_a_lane_far_from_its_bound_is_counted_twice_a_second_at_most(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    (web,) = make("rate = '1000/s'", "timeout = '10m'")
    monkeypatch.setattr(lane_cache, "_FRESH_SECONDS", float("inf"))
    monkeypatch.setattr(lane_cache, "_COUNT_SECONDS", float("inf"))
    monkeypatch.setattr(lane_cache, "_LONGEST_REST_SECONDS", float("inf"))
    web.accepted("call")
    with asked(web.database) as cost:
        ids = [web.accepted("call") for _ in range(100)]
        for job_id in ids:
            web.read(job_id)
    counts = [statement for statement in cost.statements if "row_number" in statement]
    assert counts == [], "not one, while nothing comes near a bound"


def test_a_lane_near_its_bound_costs_one_more_statement_a_submit(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    (web,) = make("rate = '1/s'", "timeout = '60s'")
    monkeypatch.setattr(lane_cache, "_FRESH_SECONDS", float("inf"))
    monkeypatch.setattr(lane_cache, "_COUNT_SECONDS", float("inf"))
    monkeypatch.setattr(lane_cache, "_LONGEST_REST_SECONDS", float("inf"))
    with asked(web.database) as cost:
        statuses = [web.submit("call").status_code for _ in range(80)]
    counts = [statement for statement in cost.statements if "row_number" in statement]
    assert statuses.count(202) == pytest.approx(61, abs=2)
    assert 10 < len(counts) <= len(statuses)


def test_a_sample_of_an_earlier_version_is_counted_anew(make: Make) -> None:
    """Without the mark of what was settled."""
    (web,) = make("rate = '10/s'")
    fill(web, "call", 10)
    web.store.samples.sample()
    web.database.execute(update(samples).values(marks="[[1, 0]]"))
    assert web.submit("call").get_json()["waiting"]["position"] == 10
