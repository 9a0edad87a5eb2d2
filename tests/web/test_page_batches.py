"""What the live page shows of calls for several jobs: how full they are, how many were halved, a job's own batch."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.jobs import LEASE, WORKER
from tests.support.page import part_of, text_of
from tests.support.waiting import wait_until
from tests.support.web import Web
from tests.web.test_page import look_anew
from tidegate.dispatch.gate import Gate
from tidegate.jobs.job import InBatch
from tidegate.metrics.families import HALVED

_TOML = """
[downstreams.models]
concurrency = 4
[downstreams.single]
[operations.embed]
downstream = "models"
url = "http://127.0.0.1:1/embed"
[operations.embed.batch]
max = 10
format = "array"
[operations.alone]
downstream = "single"
url = "http://127.0.0.1:1/alone"
"""


@pytest.fixture
def web(tmp_path: Path, database_url: str) -> Iterator[Web]:
    """With one downstream whose calls have up to ten jobs."""
    face = Web(tmp_path, database_url, operations_toml=_TOML)
    face.declare()
    yield face
    face.close()


def submit(web: Web, number: int) -> list[str]:
    """Submits so many jobs; their ids."""
    items = [{"input": {"n": each}} for each in range(number)]
    answer = web.client.post("/v1/operations/embed/jobs/bulk", json=items)
    return [each["job"]["id"] for each in answer.get_json()["jobs"]]


def card(web: Web, name: str) -> str:
    """What the card of a downstream says."""
    look_anew(web)
    page = text_of(web.client.get("/"))
    rest = page[page.index(f"{name} ") :]
    return rest[: rest.index("Empty at")]


def test_a_card_tells_how_full_the_calls_are(web: Web) -> None:
    gate = Gate(web.store.lanes, batched=web.app.extensions["tidegate"].registry.batched)
    assert "Up to 10 jobs a call" in card(web, "models")
    assert "jobs a call" not in card(web, "single"), "none goes with others there"
    submit(web, 15)
    assert len(gate.run_once().released) == 15
    wait_until(lambda: "7.5 jobs a call, of 10" in card(web, "models"), description="the next reading")
    web.store.counted.add({(HALVED.name, ("embed", "models")): 2.0, (HALVED.name, ("alone", "single")): 1.0})
    wait_until(
        lambda: "7.5 jobs a call, of 10; 2 halved in the last minute" in card(web, "models"),
        description="the next reading",
    )
    answer = web.client.get("/v1/downstreams/models").get_json()
    assert (answer["released"], answer["jobs_per_call"]) == (15, 10.0)
    assert 'tidegate_releases_total{downstream="models"} 2.0' in web.client.get("/metrics").get_data(as_text=True)


def test_a_job_tells_its_batch(web: Web) -> None:
    gate = Gate(web.store.lanes, batched=web.app.extensions["tidegate"].registry.batched)
    ids = submit(web, 3)
    released = gate.run_once().released
    assert "Batch" not in part_of(web.client.get(f"/jobs/{ids[1]}"), "now"), "it waits"
    calls = [(job.job_id, job.fence) for job in released]
    claim = partial(web.store.claims.claim_together, worker=WORKER, pid=1, lease=LEASE)
    assert len(claim(calls, attempt_timeouts={"embed": web.settings.retention})) == 3
    part = InBatch.among(ids)[1]
    page = web.client.get(f"/jobs/{ids[1]}")
    assert f"Batch 2 of 3 in call {part.id[:8]}" in text_of(page)
    assert f"in batch {part.id[:8]}" in text_of(page), "its timeline, too"
    assert web.read(ids[1]).get_json()["batch"] == {"id": part.id, "size": 3, "index": 1}
    assert json.dumps(part.id) not in web.client.get("/v1/jobs?state=queued").get_data(as_text=True)
