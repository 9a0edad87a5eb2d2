"""The search of the live page: one customer's failed jobs of yesterday, by the reader's own days."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.page import send
from tests.support.web import Web
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.errors import InvalidQuery
from tidegate.states import State
from webapp.page.search import Search

ROLES = {"shop": Role.CLIENT, "warehouse": Role.CLIENT, "ops": Role.OPERATOR}


def found(web: Web, **query: str) -> str:
    """The page of what is searched for."""
    answer = web.client.get("/", query_string=query)
    assert answer.status_code == 200
    return answer.get_data(as_text=True)


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ({"state": "failed"}, True),
        ({"state": "succeeded"}, False),
        ({"downstream": "echo"}, True),
        ({"downstream": "sample"}, False),
        ({"error_code": "downstream_error"}, True),
        ({"error_code": "cancelled"}, False),
        ({"client": "local"}, True),
        ({"client": "acme"}, False),
        ({"operation": "echo", "downstream": "echo", "state": "failed", "client": "local"}, True),
        ({"operation": "echo", "downstream": "echo", "state": "failed", "client": "acme"}, False),
    ],
)
def test_each_filter_finds_what_it_says(web: Web, query: dict[str, str], is_found: bool) -> None:
    job_id = web.job_in(State.FAILED)
    web.accepted("quote")
    page = found(web, **query)
    listed = page[page.index("Jobs found") :]
    assert (f'id="row-{job_id}"' in listed) is is_found
    for name, value in query.items():
        chosen = f'value="{value}"' if name == "client" else f"<option selected>{value}</option>"
        assert chosen in page, "the form shows what was searched for"


@pytest.mark.parametrize(
    ("since", "until", "zone", "first", "behind"),
    [
        ("2026-03-10", "2026-03-10", "UTC", "2026-03-10T00:00:00+00:00", "2026-03-11T00:00:00+00:00"),
        ("2026-03-10", "2026-03-11", "Europe/Berlin", "2026-03-10T00:00:00+01:00", "2026-03-12T00:00:00+01:00"),
        ("2026-03-29", "2026-03-29", "Europe/Berlin", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
        ("2026-10-25", "2026-10-25", "Europe/Berlin", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"),
        ("2026-03-10", "2026-03-10", "Asia/Kolkata", "2026-03-10T00:00:00+05:30", "2026-03-11T00:00:00+05:30"),
        ("2026-03-10", "2026-03-10", "No/Where", "2026-03-10T00:00:00+00:00", "2026-03-11T00:00:00+00:00"),
        ("2026-03-10", "2026-03-10", "../../etc/passwd", "2026-03-10T00:00:00+00:00", "2026-03-11T00:00:00+00:00"),
    ],
)
def test_days_are_whole_ones_of_the_readers_zone(since: str, until: str, zone: str, first: str, behind: str) -> None:
    wanted = Search.of({"since": since, "until": until, "zone": zone}).page(None, limit=1)
    assert wanted
    assert wanted.created_after == datetime.fromisoformat(first)
    assert wanted.created_before == datetime.fromisoformat(behind)


def test_the_last_day_that_there_is_has_no_end() -> None:
    wanted = Search.of({"since": "0001-01-01", "until": "9999-12-31"}).page(None, limit=1)
    assert wanted
    assert wanted.created_before is None


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-03-11", "until": "2026-03-10"}, "until: it lies before the first day"),
        ({"state": "lost"}, "state"),
        ({"error_code": "x"}, "error_code"),
        ({"cursor": "x"}, "cursor"),
        ({"operation": "a\0b"}, "operation"),
    ],
)
def test_what_can_not_be_searched_for_is_told(query: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidQuery, match=told):
        Search.of(query)


def test_what_is_left_empty_is_not_asked_for() -> None:
    search = Search.of({"q": " ", "state": "", "since": "", "client": "", "zone": "Europe/Berlin"})
    assert not search.is_narrow
    assert search.page(None, limit=1) == Search().page(None, limit=1)


@pytest.fixture
def door(tmp_path: Path, database_url: str) -> Iterator[Web]:
    web = Web(tmp_path, database_url, auth="keys")
    yield web
    web.close()


def test_an_operator_searches_by_a_clients_name_and_a_client_among_its_own(door: Web) -> None:
    keys = KeyStore(door.database)
    secrets = {name: keys.create(name, name="", role=role)[1] for name, role in ROLES.items()}
    jobs = {}
    for name in ("shop", "warehouse"):
        answer = door.submit(headers={"Authorization": f"Bearer {secrets[name]}"})
        jobs[name] = answer.get_json()["id"]

    send(door, "/sign-in", key=secrets["ops"])
    page = door.client.get("/?client=shop&state=queued").get_data(as_text=True)
    assert f'id="row-{jobs["shop"]}"' in page
    assert f'id="row-{jobs["warehouse"]}"' not in page[page.index('id="jobs"') :]
    by_id = door.client.get(
        f"/v1/jobs/{jobs['shop']}", headers={"Authorization": f"Bearer {secrets['shop']}"}
    ).get_json()
    assert f'id="row-{jobs["shop"]}"' in door.client.get(f"/?client={by_id['client']}").get_data(as_text=True)
    assert "There is no such job" in door.client.get("/?client=nobody").get_data(as_text=True)

    send(door, "/sign-in", key=secrets["warehouse"])
    page = door.client.get("/?client=shop").get_data(as_text=True)
    assert jobs["shop"] not in page
    assert 'name="client"' not in page
