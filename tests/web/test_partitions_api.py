"""Partitions over HTTP: whose they are, how operators list and change them, and what callers see of them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.web import Web, assert_is_problem
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.dispatch.gate import Gate

OPERATIONS = """\
[downstreams.crm]
partition = "header"
each = { rate = "5/s", burst = 2, concurrency = 2 }

[downstreams.crm.partitions.bigco]
weight = 4
rate = "20/s"

[downstreams.crm.partitions.strict]
order = "strict"

[downstreams.plain]
partition = "none"

[downstreams.fair]
partition = "client"

[operations.order]
url = "http://127.0.0.1:1/order"
downstream = "crm"
timeout = "1h"

[operations.plain]
url = "http://127.0.0.1:1/plain"
downstream = "plain"

[operations.fair]
url = "http://127.0.0.1:1/fair"
downstream = "fair"
"""
URL = "/v1/downstreams/crm/partitions"


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


def key(web: Web, client: str, role: Role = Role.CLIENT, *, shared: bool = False) -> dict[str, str]:
    """The header of a new key."""
    keys = KeyStore(web.database)
    _, secret = keys.create(client, name="", role=role, names_shared=shared, expires_in=timedelta(hours=1))
    return {"Authorization": f"Bearer {secret}"}


def partitions(web: Web, query: str = "", **headers: str) -> list[dict[str, Any]]:
    answer = web.client.get(URL + query, headers=headers)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    found: list[dict[str, Any]] = answer.get_json()["partitions"]
    return found


@pytest.mark.both_databases("limits and pauses are rows, and the lists are queries")
def test_a_partition_is_told_whole_and_changed(web: Web) -> None:
    web.accepted("order", Job_Partition="bigco")
    declared = {"weight": 4.0, "rate": ["20/s"], "burst": 1, "concurrency": None}
    expected = {
        "client": IMPLICIT_CLIENT,
        "name": "bigco",
        **declared,
        "order": "fair",
        "paused": False,
        "resting_until": None,
        "resting_because": None,
        "declared": declared,
        "changed": [],
        "waiting": 1,
        "in_flight": 0,
        "share": 1.0,
        "links": {"self": f"http://localhost{URL}?client={IMPLICIT_CLIENT}&name=bigco"},
    }
    assert partitions(web) == [expected]
    assert partitions(web, "?name=bigco") == [expected]
    assert web.client.get(expected["links"]["self"]).get_json() == {"partitions": [expected], "next": None}  # type: ignore[index]

    answer = web.client.patch(URL + "?name=bigco", json={"weight": 2, "rate": "1/s", "paused": True})

    changed = {**expected, "weight": 2.0, "rate": ["1/s"], "paused": True, "changed": ["rate", "weight"], "share": None}
    assert (answer.status_code, answer.get_json()) == (200, changed)
    assert Gate(web.store.lanes).run_once().released == []
    back = web.client.patch(URL + "?name=bigco", json={"weight": None, "rate": None, "paused": None}).get_json()
    assert back == expected
    assert len(Gate(web.store.lanes).run_once().released) == 1


def test_names_are_any_visible_characters(web: Web) -> None:
    name = "a/b&c=%2F?#+"
    web.accepted("order", Job_Partition=name)
    (told,) = partitions(web)
    assert told["name"] == name
    read = web.client.get(told["links"]["self"]).get_json()["partitions"]
    assert read == [told]
    answer = web.client.patch(URL, query_string={"name": name}, json={"concurrency": "unlimited"})
    assert (answer.status_code, answer.get_json()["concurrency"]) == (200, None)


def test_pages_follow_each_other(web: Web) -> None:
    for number in range(5):
        for _ in range(number + 1):
            web.accepted("order", Job_Partition=f"p{number}")
    for sort, names in (("waiting", ["p4", "p3", "p2", "p1", "p0"]), ("name", ["p0", "p1", "p2", "p3", "p4"])):
        url, found = f"{URL}?sort={sort}&limit=2", []
        while url:
            page = web.client.get(url).get_json()
            found += [each["name"] for each in page["partitions"]]
            url = page["next"]
        assert found == names


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"weight": 0}, "/weight"),
        ({"weight": "1"}, "/weight"),
        ({"weight": True}, "/weight"),
        ({"rate": "fast"}, "/rate"),
        ({"burst": 0}, "/burst"),
        ({"concurrency": 0}, "/concurrency"),
        ({"paused": 1}, "/paused"),
        ({"order": "strict"}, "/order"),
    ],
)
def test_a_value_that_can_not_be_is_a_422_that_points_at_it(web: Web, change: dict[str, Any], pointer: str) -> None:
    document = assert_is_problem(web.client.patch(URL + "?name=a", json={"burst": 9, **change}), 422, "invalid-input")
    assert [fault["pointer"] for fault in document["errors"]] == [pointer]
    assert partitions(web) == []


@pytest.mark.parametrize(
    "query",
    [
        *("?name=a%20b", "?name=%00", "?client=%00", "?client=a/b&name=c", f"?name={'x' * 65}", "?name=a&name=b"),
        *("?sort=size", "?limit=0", "?limit=201", "?cursor=x", "?cursor=%00", "?state=queued"),
    ],
)
def test_a_query_that_can_not_be_is_a_400(web: Web, query: str) -> None:
    assert_is_problem(web.client.get(URL + query), 400, "invalid-query")


def test_what_is_not_there_is_told_apart(web: Web) -> None:
    for name in ("nothing", "a%00b"):
        assert_is_problem(web.client.get(f"/v1/downstreams/{name}/partitions"), 404, "unknown-downstream")
        url = f"/v1/downstreams/{name}/partitions?name=a"
        assert_is_problem(web.client.patch(url, json={"weight": 2}), 404, "unknown-downstream")
    problem = assert_is_problem(web.client.get("/v1/downstreams/plain/partitions"), 409, "not-shared")
    assert "one line" in problem["detail"]
    assert_is_problem(web.client.patch("/v1/downstreams/plain/partitions?name=a", json={}), 409, "not-shared")
    assert_is_problem(web.client.patch(URL, json={"weight": 2}), 400, "invalid-query")
    assert_is_problem(web.client.patch(URL + "?name=a&client=nobody", json={"weight": 2}), 400, "invalid-query")
    assert_is_problem(
        web.client.patch(URL + "?name=a", data=b"{}", content_type="text/plain"), 415, "unsupported-media-type"
    )
    fair = "/v1/downstreams/fair/partitions?name=a"
    assert_is_problem(web.client.patch(fair, json={"weight": 2}), 400, "invalid-query")


def test_a_name_is_the_clients_own_unless_its_key_shares_names(keyed: Web) -> None:
    operator, one, any_ = key(keyed, "boss", Role.OPERATOR), key(keyed, "one"), key(keyed, "one", shared=True)
    two = key(keyed, "two", shared=True)
    for headers in (one, any_, two):
        assert keyed.submit("order", headers={**headers, "Job-Partition": "k"}).status_code == 202
    items = [{"input": 1, "partition": "k", "priority": 0}, {"input": 2}]
    url = "/v1/operations/order/jobs/bulk"
    jobs = keyed.client.post(url, json=items, headers=two).get_json()["jobs"]
    assert [(each["job"]["partition"], each["job"]["priority"]) for each in jobs] == [("k", 0), (None, 3)]

    own, its = (
        jobs[0]["job"]["client"],
        {(each["client"], each["name"]): each for each in partitions(keyed, **operator)},
    )
    ones = next(client for client, name in its if name == "k" and client)

    assert {which: each["waiting"] for which, each in its.items()} == {(None, "k"): 3, (ones, "k"): 1, (own, None): 1}
    assert [each["waiting"] for each in partitions(keyed, "?name=k", **operator)] == [3]
    assert [each["waiting"] for each in partitions(keyed, f"?name=k&client={ones}", **operator)] == [1]
    assert [each["name"] for each in partitions(keyed, f"?client={own}", **operator)] == [None]
    weight = keyed.client.patch(f"{URL}?name=&client={ones}", json={"weight": 2}, headers=operator).get_json()
    assert (weight["client"], weight["name"], weight["weight"], weight["waiting"]) == (ones, None, 2.0, 0)
    assert partitions(keyed, f"?name=k&client={ones}", **operator)[0]["share"] == 0.5
    assert_is_problem(keyed.client.get(URL, headers=one), 403, "forbidden")
    assert_is_problem(keyed.client.patch(URL + "?name=k", json={"paused": True}, headers=one), 403, "forbidden")


def test_a_job_that_is_submitted_again_stays_in_its_shared_partition(keyed: Web) -> None:
    headers, operator = key(keyed, "one", shared=True), key(keyed, "boss", Role.OPERATOR)
    job = keyed.submit("order", headers={**headers, "Job-Partition": "k"}).get_json()
    keyed.client.post(f"/v1/jobs/{job['id']}/cancel", headers=headers)

    assert keyed.client.post(f"/v1/jobs/{job['id']}/retry", headers=operator).status_code == 202

    assert [(each["client"], each["name"], each["waiting"]) for each in partitions(keyed, **operator)] == [
        (None, "k", 1)
    ]


def test_jobs_tell_their_partition_and_are_found_by_it(web: Web) -> None:
    ids = {name: web.accepted("order", Job_Partition=name) for name in ("a", "b")}
    urgent = web.accepted("order", Job_Partition="a", Job_Priority="1")
    unnamed, plain = web.accepted("order"), web.accepted("plain")

    def told(job_id: str) -> list[Any]:
        document = web.read(job_id).get_json()
        return [document.get(member, "none") for member in ("partition", "priority")]

    assert [told(each) for each in (ids["b"], urgent, unnamed)] == [["b", 3], ["a", 1], [None, 3]]
    assert told(plain) == ["none", "none"]
    found = web.client.get("/v1/jobs?partition=a").get_json()["jobs"]
    assert [each["id"] for each in found] == [urgent, ids["a"]]
    assert_is_problem(web.client.get("/v1/jobs?partition=a%20b"), 400, "invalid-query")
    cancelled = web.client.post("/v1/jobs/cancel", json={"partition": "a"}).get_json()
    assert cancelled["cancelled"] == 2


@pytest.mark.parametrize(
    ("item", "pointer"),
    [({"partition": "a b"}, "/0/partition"), ({"partition": ""}, "/0/partition"), ({"priority": 8}, "/0/priority")],
)
def test_a_bulk_submit_whose_partition_can_not_be_is_refused(web: Web, item: dict[str, Any], pointer: str) -> None:
    answer = web.client.post("/v1/operations/order/jobs/bulk", json=[{"input": 1, **item}])
    assert assert_is_problem(answer, 422, "invalid-input")["errors"][0]["pointer"] == pointer
