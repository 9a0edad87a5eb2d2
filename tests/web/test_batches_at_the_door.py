"""Submits to operations that take several jobs in a call: each input is checked alone, and described as one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.web import Web, assert_is_problem

MODULE = """\
from tidegate.operations import operation


@operation(batch=10)
def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]
"""
OPERATIONS = """
[operations.embed]
url = "http://127.0.0.1:1/embed"

[operations.embed.batch]
max = 20
format = "array"
linger = "20ms"
max_bytes = "1KB"

[operations.orders]
url = "http://127.0.0.1:1/orders"
batch = { max = 10, format = "sqs" }

[operations.plain]
url = "http://127.0.0.1:1/plain"
"""


@pytest.fixture
def web(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    (tmp_path / "acme_lengths.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    face = Web(tmp_path, database_url, operations_toml=OPERATIONS, operations=("acme_lengths",))
    yield face
    face.close()


def test_an_input_that_would_break_the_call_of_others_is_refused(web: Web) -> None:
    assert_is_problem(web.submit("embed", "{"), 400, "malformed-body")
    assert_is_problem(web.submit("embed", "1", content_type="text/plain"), 415, "unsupported-media-type")
    assert_is_problem(web.submit("embed", f'"{"x" * 1024}"'), 413, "body-too-large")
    problem = assert_is_problem(web.submit("lengths", "1"), 422, "invalid-input")
    assert problem["errors"][0]["pointer"] == ""
    assert_is_problem(web.submit("orders", b"\xff", content_type="text/plain"), 422, "invalid-input")
    assert web.count() == 0
    for name, content in (("embed", "1"), ("lengths", '"a"')):
        assert web.submit(name, content).status_code == 202
    assert web.submit("orders", "a text", content_type="text/plain").status_code == 202


def test_how_many_jobs_a_call_takes_is_told(web: Web) -> None:
    shown = {each["name"]: each["batch"] for each in web.client.get("/v1/operations").get_json()["operations"]}

    assert shown["embed"] == {"max": 20, "linger": 0.02, "max_bytes": 1024}
    assert shown["orders"] == shown["lengths"] == {"max": 10, "linger": 0.0, "max_bytes": 4 * 1024 * 1024}
    assert shown["plain"] is None


def test_the_input_that_is_described_is_that_of_one_job(web: Web) -> None:
    document = web.client.get("/openapi.json").get_json()

    def submit(name: str) -> dict[str, dict[str, object]]:
        post: dict[str, dict[str, object]] = document["paths"][f"/v1/operations/{name}/jobs"]["post"]
        return post

    assert {"400", "415", "422"} <= submit("embed")["responses"].keys()
    assert {"400", "422"} <= submit("orders")["responses"].keys()
    assert document["components"]["schemas"]["lengths_input"] == {"type": "string"}
    assert document["components"]["schemas"]["embed_input"] == {}
