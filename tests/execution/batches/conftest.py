"""A bulk endpoint, operations that call it, and the HTTP face beside the workers of these tests."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from config.settings import Settings
from config.webhook_keyring import load_keyring
from tests.support import batch_operations
from tests.support.batch_operations import calls_in
from tests.support.bulk_endpoint import PATIENCE, Bulk, submit_all
from tests.support.http_server import HttpServer
from tests.support.nodes import SchedulerNode
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.support.web import Web
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.stores import Store
from tidegate.webhooks.secret_store import SecretStore


@pytest.fixture
def bulk(downstream: HttpServer) -> Iterator[Bulk]:
    made = Bulk(downstream)
    yield made
    made.is_open.set()


@pytest.fixture
def operations_toml(downstream: HttpServer) -> str:
    """Two operations of the bulk endpoint; the second gives an attempt one second."""
    retry = 'timeout = "2m"\nretry = { attempts = 3, delay = "50ms", max_delay = "100ms" }'
    return "[downstreams.bulk]\nconcurrency = 1\n" + "".join(
        f'[operations.{name}]\ndownstream = "bulk"\nurl = "{downstream.url}/{name}"\nattempt_timeout = "{seconds}s"\n'
        f'{retry}\n[operations.{name}.batch]\nmax = 10\nformat = "results"\n'
        for name, seconds in (("double", 20), ("double_soon", 1))
    )


@pytest.fixture
def default_worker_env(default_worker_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Knows the batch operations; webhooks may go to loopback."""
    return {
        **default_worker_env,
        "TIDEGATE_OPERATIONS": batch_operations.__name__,
        "TIDEGATE_WEBHOOK_NETWORKS": "127.0.0.0/8",
        batch_operations.CALLS: str(tmp_path),
    }


@pytest.fixture
def face(tmp_path: Path, database_url: str, broker: Valkey, operations_toml: str) -> Iterator[Web]:
    """The HTTP face beside the workers."""
    (tmp_path / "web").mkdir()
    web = Web(
        tmp_path / "web",
        database_url,
        broker_url=broker.url,
        operations_toml=operations_toml,
        operations=(batch_operations.__name__,),
        webhook_networks="127.0.0.0/8",
        data=tmp_path / "data",
    )
    yield web
    web.close()


@pytest.fixture
def secret(store: Store, tmp_path: Path, face: Web) -> str:
    """A secret under the key in the data folder that the workers share."""
    settings = Settings(_env_file=None, data=tmp_path / "data")
    secrets = SecretStore(store.database, cache(lambda: load_keyring(settings)))
    return secrets.rotate(IMPLICIT_CLIENT, overlap=settings.retention)[1]


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Calls of batches that are held until they are let go: over HTTP by the endpoint, in Python by a file."""

    face: Web
    bulk: Bulk
    folder: Path
    start_scheduler: Callable[[], SchedulerNode]

    def begin(self, operation: str, *numbers: int, **headers: str) -> list[str]:
        """Submits a job for each number, lets all of them go in one call, and waits until that is made; the jobs."""
        self.bulk.is_open.clear()
        inputs = [{"n": number, "wait_for": str(self._there)} for number in numbers]
        ids = submit_all(self.face, operation, *inputs, **headers)
        self.start_scheduler()
        wait_until(lambda: self.made, description="the call is made", timeout_seconds=PATIENCE)
        return ids

    def let_go(self) -> None:
        """Lets this call, and all that come, have an answer."""
        self.bulk.is_open.set()
        self._there.touch()

    @property
    def made(self) -> Sequence[list[int]]:
        """The numbers of each call."""
        return self.bulk.calls or calls_in(self.folder)

    @property
    def _there(self) -> Path:
        return self.folder / "there"


@pytest.fixture
def calls(face: Web, bulk: Bulk, tmp_path: Path, start_scheduler: Callable[[], SchedulerNode]) -> Calls:
    return Calls(face=face, bulk=bulk, folder=tmp_path, start_scheduler=start_scheduler)
