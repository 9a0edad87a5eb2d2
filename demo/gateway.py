"""The gateway that the demo runs on: the one that `make run` started, or one of its own."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

START_SECONDS = 90
# Its own: what is set for another gateway, such as a database, is none of its business.
_OPERATIONS = Path(__file__).parents[1] / "config" / "operations.toml"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the gateway and the sample downstream listen. `is_own`: started for the demo, and stopped after it."""

    url: str
    sample_url: str
    is_own: bool


@contextmanager
def running(url: str, sample_url: str) -> Iterator[Place]:
    """The gateway at `url` with the sample at `sample_url`; where none answers, one for the time of the demo."""
    if _answers(f"{url}/health/ready") and _answers(f"{sample_url}/health"):
        yield Place(url=url, sample_url=sample_url, is_own=False)
        return
    with tempfile.TemporaryDirectory(prefix="tidegate-demo-", ignore_cleanup_errors=True) as folder:
        port, sample_port = _free_ports()
        own = Place(url=f"http://127.0.0.1:{port}", sample_url=f"http://127.0.0.1:{sample_port}", is_own=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        environment |= {
            "TIDEGATE_PORT": str(port),
            "TIDEGATE_SAMPLE_PORT": str(sample_port),
            "TIDEGATE_DATA": folder,
            "TIDEGATE_DATABASE_URL": "",
            "TIDEGATE_BROKER_URL": "",
            "TIDEGATE_AUTH": "off",
            "TIDEGATE_OPERATIONS_FILE": str(_OPERATIONS),
        }
        with (Path(folder) / "log").open("w") as log:
            stack = subprocess.Popen(
                [sys.executable, "-m", "embedded"], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            _wait_until_ready(own.url, stack, Path(folder) / "log")
            yield own
        finally:
            stack.terminate()
            stack.wait(30)


def _wait_until_ready(url: str, stack: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while not _answers(f"{url}/health/ready"):
        if stack.poll() is not None or time.monotonic() > give_up_at:
            sys.exit(f"Tidegate did not start for the demo:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]
