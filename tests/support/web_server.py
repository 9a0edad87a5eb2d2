"""The web server as a process of its own over a test's database and broker, and clients of its event streams."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import EventSource, connect_sse

from tests.support.processes import ChildProcess, free_port, is_listening
from tests.support.waiting import wait_until


class WebServer:
    """`python -m webapp` with `settings`, names without TIDEGATE_; whoever moves its jobs is the test."""

    def __init__(self, folder: Path, database_url: str, broker_url: str = "", **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        values = {
            "PORT": str(self.port),
            "DATA": str(folder),
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "OPERATIONS": "tests.support.operations",
            **settings,
        }
        self.process = ChildProcess(
            [sys.executable, "-m", "webapp"],
            log=folder / "web.log",
            environment={f"TIDEGATE_{name}": value for name, value in values.items()},
        )
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def start(self) -> None:
        """Starts it, a second time on the same port, and waits until it answers."""
        self.process.start()
        wait_until(self._answers, description=f"{self.url} answers", timeout_seconds=60)

    def submit(self, operation: str = "echo", **headers: str) -> str:
        """Submits a job and returns its id."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.client.post(f"/v1/operations/{operation}/jobs", json=1, headers=named)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    @contextmanager
    def events(self, job_id: str, **headers: str) -> Iterator[EventSource]:
        """The job's event stream over a connection of its own; raises httpx.HTTPError when it breaks."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with (
            httpx.Client(base_url=self.url, timeout=30, trust_env=False) as client,
            connect_sse(client, "GET", f"/v1/jobs/{job_id}/events", headers=named) as source,
        ):
            yield source

    def close(self) -> None:
        """Kills it and lets go of its connections."""
        self.client.close()
        self.process.kill()

    def _answers(self) -> bool:
        if not self.process.is_running:
            raise AssertionError(f"it ended with {self.process.exit_code}:\n{self.process.logs()[-3000:]}")
        try:
            return is_listening(self.port) and self.client.get("/health/live").status_code == 200
        except httpx.HTTPError:
            return False


def document(event: Any) -> dict[str, Any]:
    """The job's document that an event carries."""
    found: dict[str, Any] = event.json()
    return found


def told(event: Any) -> Mapping[str, str]:
    """What an event says at a glance: its kind, its id, the job's state."""
    return {"event": event.event, "id": event.id, "state": document(event)["state"]}
