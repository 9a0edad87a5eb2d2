"""Access tokens of real workers: 40 calls of two processes, an expiry, a revocation; and who gets to see what."""

import base64
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.support.nodes import SchedulerNode, WorkerNode
from tests.support.oauth_server import CLIENT_ID, CLIENT_SECRET, OAuthServer, serving_oauth
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.support.web import Web
from tidegate.database.schema import attempts, bodies, jobs, oauth_tokens

pytestmark = pytest.mark.long  # tokens of real workers are waited out

StartWorker = Callable[..., WorkerNode]
KEY = base64.b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture
def server() -> Iterator[OAuthServer]:
    with serving_oauth() as running:
        yield running


@pytest.fixture
def operations_toml(server: OAuthServer) -> str:
    """An operation whose calls carry a token."""
    oauth = f'token_url = "{server.url}/token", client_id = "{CLIENT_ID}", client_secret = "${{API_SECRET}}"'
    retry = 'timeout = "1m"\nattempt_timeout = "10s"\nretry = { attempts = 1 }\n'
    return f'[operations.call]\nurl = "{server.url}/api"\noauth = {{ {oauth}, scope = "x" }}\n{retry}'


@pytest.fixture
def sealing_key() -> str:
    """That of the workers; a test parametrizes it."""
    return KEY


@pytest.fixture
def default_worker_env(default_worker_env: dict[str, str], sealing_key: str) -> dict[str, str]:
    return {**default_worker_env, "API_SECRET": CLIENT_SECRET, "TIDEGATE_SEALING_KEY": sealing_key}


@pytest.fixture
def face(tmp_path: Path, database_url: str, broker: Valkey, operations_toml: str) -> Iterator[Web]:
    """The HTTP face beside the workers, without their secrets."""
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web", database_url, broker_url=broker.url, operations_toml=operations_toml)
    yield web
    web.close()


@pytest.fixture
def workers(start_worker: StartWorker, scheduler: SchedulerNode) -> list[WorkerNode]:
    return [start_worker("io", name=f"io-{number}") for number in (1, 2)]


def submit_all(face: Web, count: int) -> list[str]:
    return [face.accepted("call", b"{}") for _ in range(count)]


def wait_for_all(face: Web, job_ids: list[str]) -> None:
    def are_done() -> bool:
        rows = [face.row(job_id) for job_id in job_ids]
        assert not [row.error for row in rows if row.state == "failed"]
        return all(row.state == "succeeded" for row in rows)

    wait_until(are_done, description="all jobs succeeded", timeout_seconds=40)
    assert {face.row(job_id).attempt for job_id in job_ids} == {1}, "none has used up more than one attempt"


def worked(face: Web) -> int:
    """How many workers have made attempts."""
    return len({row.worker for row in face.database.fetch_all(select(attempts.c.worker).distinct())})


def assert_told_nowhere(face: Web, server: OAuthServer, nodes: list[WorkerNode]) -> None:
    """Neither the secret nor any token stands in a log or, unsealed, in the database."""
    logs = "".join(node.logs() for node in nodes)
    rows = [
        repr(row) for table in (jobs, attempts, bodies, oauth_tokens) for row in face.database.fetch_all(select(table))
    ]
    for secret in (CLIENT_SECRET, KEY, *server.all_tokens):
        assert secret not in logs
        assert not [row for row in rows if secret in row]
    assert "a token was fetched from" in logs


def test_two_workers_fetch_one_token_for_40_calls(face: Web, server: OAuthServer, workers: list[WorkerNode]) -> None:
    server.delay_seconds = 0.3

    wait_for_all(face, submit_all(face, 40))

    assert worked(face) == 2
    assert (len(server.asked), server.calls) == (1, [200] * 40)
    assert_told_nowhere(face, server, workers)


@pytest.mark.parametrize("sealing_key", [""])
def test_without_a_sealing_key_each_worker_fetches_one(
    face: Web, server: OAuthServer, workers: list[WorkerNode]
) -> None:
    server.delay_seconds = 0.3

    wait_for_all(face, submit_all(face, 40))

    assert worked(face) == 2
    assert (len(server.asked), server.calls) == (2, [200] * 40)
    assert face.database.fetch_all(select(oauth_tokens)) == []


def test_a_token_is_renewed_before_its_end_and_once_when_it_is_revoked(
    face: Web, server: OAuthServer, workers: list[WorkerNode]
) -> None:
    server.life = 3
    wait_for_all(face, submit_all(face, 20))
    first = len(server.asked)
    time.sleep(3)  # it is over
    server.life = 16
    wait_for_all(face, submit_all(face, 20))
    assert len(server.asked) == first + 1

    time.sleep(8.2)  # no longer young: half of its life
    refused_before = server.calls.count(401)
    server.revoke()
    renewed = submit_all(face, 40)
    wait_for_all(face, renewed)

    assert len(server.asked) == first + 2, "one renewal for all of them"
    refused = server.calls.count(401) - refused_before
    assert refused > 0
    rows = face.database.fetch_all(select(attempts.c.outcome).where(attempts.c.job_id.in_(renewed)))
    assert [row.outcome for row in rows].count("token renewed") == refused
    assert_told_nowhere(face, server, workers)
