"""A scrape stays small with partitions by the thousand: the busiest by name, the rest as one, and names are bounded."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.support.jobs import submit_to_partitions
from tests.support.scrape import Scrape
from tests.support.statements import asked
from tests.support.web import Web
from tidegate.clock import EPOCH
from tidegate.database.schema import IMPLICIT_CLIENT, jobs, samples
from tidegate.database.time import database_now
from tidegate.metrics import store as count_store
from tidegate.metrics.busiest import MOST_PARTITIONS, REST

OPERATIONS = """\
[downstreams.crm]
partition = "header"

[downstreams.fax]
partition = "header"

[operations.order]
url = "http://127.0.0.1:1/order"
downstream = "crm"

[operations.fax]
url = "http://127.0.0.1:1/fax"
downstream = "fax"
"""
WAITING = "tidegate_partition_waiting_jobs"
OPEN = "tidegate_partition_in_flight"
OLDEST = "tidegate_partition_oldest_due_job_age_seconds"
on_both = pytest.mark.both_databases("who is busiest is found by SQL")


@pytest.fixture
def web(tmp_path: Path, database_url: str) -> Iterator[Web]:
    made = Web(tmp_path, database_url, operations_toml=OPERATIONS)
    made.declare()
    yield made
    made.close()


def submit(web: Web, name: str | None, count: int = 1, operation: str = "order") -> None:
    lane = "crm" if operation == "order" else "fax"
    submit_to_partitions(web.store, [name or ""], lane=lane, operation=operation, each=count)


def scrape(web: Web, *, later: bool = False) -> Scrape:
    """What Prometheus gets a second later; `later`: after the busiest have been chosen anew."""
    if later:
        web.app.extensions["tidegate"].store.counted._partitions_chosen_at = float("-inf")
    web.store.database.execute(update(samples).values(taken_at=database_now(-timedelta(seconds=1))))
    web.store.samples._partitions._rests_until.clear()
    web.store.samples.sample()
    return Scrape(web.client.get("/metrics").get_data(as_text=True))


def names(found: Scrape, series: str = WAITING) -> list[str]:
    of_it = [each for family in found.families for each in family.samples if each.name == series]
    return [each.labels["partition"] for each in of_it if each.labels["downstream"] != REST]


def of_partition(found: Scrape, series: str, name: str, lane: str = "crm") -> float | None:
    return found.value(series, downstream=lane, client=IMPLICIT_CLIENT, partition=name)


def of_rest(found: Scrape, series: str) -> float | None:
    return found.value(series, downstream=REST, client=REST, partition=REST)


@on_both
def test_the_busiest_of_all_downstreams_have_series_and_the_rest_has_one(web: Web) -> None:
    web.claim(web.accepted("fax", Job_Partition="runs"))
    for number in range(MOST_PARTITIONS):
        submit(web, f"p{number}", 2)
    submit(web, "big", 5, operation="fax")
    submit(web, "small", 1, operation="fax")
    submit(web, "less", 1)
    long_ago = update(jobs).where(jobs.c.partition == f"{IMPLICIT_CLIENT}/less")
    web.database.execute(long_ago.values(run_at=database_now(-timedelta(minutes=5)), rank_at=EPOCH))

    found = scrape(web)

    assert len(names(found)) == MOST_PARTITIONS
    assert "less" not in names(found)
    assert found.total(WAITING) == found.total("tidegate_backlog_jobs", downstream="crm") + found.total(
        "tidegate_backlog_jobs", downstream="fax"
    )
    for lane in ("crm", "fax"):
        waiting = found.total(WAITING, downstream=lane)
        assert waiting <= found.total("tidegate_backlog_jobs", downstream=lane)
    assert found.total(OPEN) == found.total("tidegate_downstream_in_flight")
    assert 290 < (of_rest(found, OLDEST) or 0) < 400
    assert found.value("tidegate_waiting_partitions", downstream="crm") == len(web.store.lanes.partitions.active("crm"))


def test_who_has_series_keeps_them_until_another_is_much_busier(web: Web) -> None:
    for number in range(MOST_PARTITIONS):
        submit(web, f"p{number}", 1)
    first = scrape(web)
    submit(web, "newcomer", 11)
    same = scrape(web, later=True)
    submit(web, "newcomer", 2)
    soon = scrape(web)
    then = scrape(web, later=True)

    assert {*names(first)} == {f"p{number}" for number in range(MOST_PARTITIONS)}
    assert names(same) == names(first)
    assert of_rest(same, WAITING) == 11
    assert names(soon) == names(first), "not before a minute is over"
    assert of_partition(then, WAITING, "newcomer") == 13
    assert len(names(then)) == MOST_PARTITIONS
    assert of_rest(then, WAITING) == 1
    assert then.value("tidegate_largest_partition_waiting_jobs", downstream="crm") == 13


def test_one_that_fell_behind_twenty_others_of_its_downstream_is_still_counted(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(web, "quiet", 1)
    scrape(web)
    monkeypatch.setattr(count_store, "_MORE_WAITING", 1000)
    for number in range(MOST_PARTITIONS + 3):
        submit(web, f"p{number:02}", 2)

    found = scrape(web, later=True)

    assert of_partition(found, WAITING, "quiet") == 1
    assert (of_partition(found, OLDEST, "quiet") or 0) > 0
    assert of_rest(found, WAITING) == 2 * 4


def test_names_that_callers_choose_are_only_text(web: Web) -> None:
    hostile = '"}\\n<script>{x="y\\'
    submit(web, hostile, 2)
    submit(web, "x" * 64)
    submit(web, None, 3)
    found = scrape(web)
    assert {*names(found)} == {hostile, "x" * 64, ""}
    assert of_partition(found, WAITING, hostile) == 2
    assert of_partition(found, WAITING, "") == 3


def test_many_partitions_cost_no_series_and_no_statement_more(web: Web) -> None:
    for number in range(MOST_PARTITIONS + 1):
        submit(web, f"p{number}")

    def cost() -> tuple[int, int]:
        scrape(web, later=True)
        with asked(web.database) as seen:
            text = web.client.get("/metrics").get_data(as_text=True)
        return len(seen.statements), len(text.split("\n"))

    before = cost()
    for number in range(100):
        submit(web, f"more{number}")
    statements, lines = cost()
    assert lines == before[1]
    assert statements <= before[0] + 1, "those that fell behind twenty others are counted"


def test_without_shared_downstreams_no_statement_asks_for_partitions(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url)
    web.declare()
    with asked(web.database) as seen:
        text = web.client.get("/metrics").get_data(as_text=True)
    assert not [each for each in seen.statements if "partition" in each]
    assert f"# HELP {WAITING} " in text
    web.close()
