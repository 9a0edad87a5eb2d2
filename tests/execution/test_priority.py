"""Workers give way to the web server of the same machine."""

import os
from pathlib import Path

import psutil
import pytest

from tests.support.node_fixtures import StartWorker

_NICE = 7


@pytest.fixture
def default_worker_env(default_worker_env: dict[str, str]) -> dict[str, str]:
    """Nicer than the other tests' workers."""
    return {**default_worker_env, "TIDEGATE_WORKER_NICE": str(_NICE)}


@pytest.mark.parametrize("queue", ["io", "cpu"])
def test_a_worker_and_its_children_are_nice_to_others(start_worker: StartWorker, queue: str) -> None:
    """Also where Linux shares its processors out between sessions first."""
    first = psutil.Process(start_worker(queue, concurrency=2).container.pid)
    everyone = [each for each in (first, *first.children(recursive=True)) if each.name() != "docker-init"]
    assert len(everyone) >= (3 if queue == "cpu" else 1)
    for process in everyone:
        assert process.nice() == _NICE
        autogroup = Path(f"/proc/{process.pid}/autogroup")
        # In a container Docker's own first process leads the session, and what a container gets is its cgroup's.
        if autogroup.exists() and os.getsid(process.pid) in {each.pid for each in everyone}:
            assert autogroup.read_text().split()[-2:] == ["nice", str(_NICE)]
    assert os.getpriority(os.PRIO_PROCESS, 0) < _NICE
