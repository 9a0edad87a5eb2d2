"""The compose stack, one for all of these tests: `make test-stack` runs them, and no other run does."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.compose import Compose, why_not
from tests.support.processes import REPOSITORY

# Those that Docker takes its networks from: a receiver in a container beside the stack may be told.
PRIVATE = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"


def patient_operations(folder: Path) -> Path:
    """The operations that are shipped, whose jobs wait as long as a slow machine needs to move or restart a stack."""
    text = (REPOSITORY / "config" / "operations.toml").read_text()
    assert '\ntimeout = "2m"\n' in text
    file = folder / "operations.toml"
    file.write_text(text.replace('\ntimeout = "2m"\n', '\ntimeout = "1h"\n'))
    file.chmod(0o644)  # the containers' user reads it
    return file


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """Built and empty; each module starts it as it needs it."""
    if reason := why_not():
        pytest.fail(f"the stack needs a Docker engine with Compose; {reason}")
    folder = tmp_path_factory.mktemp("stack")
    settings = {"LEASE_SECONDS": "5", "WEBHOOK_NETWORKS": PRIVATE, "OPERATIONS_FILE": str(patient_operations(folder))}
    compose = Compose(folder, settings)
    compose.down(volumes=True)
    compose.build()
    yield compose
    compose.down(volumes=True)


@pytest.fixture(scope="module")
def running(stack: Compose) -> Iterator[Compose]:
    """Started as docs/operating.md says, with nothing in its volumes; afterwards everything of it is gone."""
    stack.one_of_each()
    stack.up()
    yield stack
    stack.down(volumes=True)


@pytest.fixture(scope="module")
def operator(running: Compose) -> Iterator[httpx2.Client]:
    """A client with an operator's key."""
    with running.client(running.make_key("ops", "operator")) as client:
        yield client
