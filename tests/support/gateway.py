"""The whole stack as a user starts it: `python -m embedded`, spoken to over HTTP only."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import psutil

from tests.support.processes import ChildProcess, free_port
from tests.support.waiting import wait_until

# The supervisor gives each of its three groups a minute, which a machine that runs other tests beside it may take.
START_SECONDS = 180
STOP_SECONDS = 10

OPERATIONS = """\
[downstreams.sample]
rate = "20/s"
concurrency = 4

[operations.quote]
downstream = "sample"
url = "http://127.0.0.1:${TIDEGATE_SAMPLE_PORT:-8001}/quote"
timeout = "1m"
attempt_timeout = "5s"
"""


class Gateway:
    """One running stack with ports and a data folder of its own.

    `settings` are laid over its environment, names without TIDEGATE_. `module` runs it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        operations: str = OPERATIONS,
        settings: Mapping[str, str] | None = None,
        module: str = "embedded",
    ) -> None:
        port, sample_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.sample_url = f"http://127.0.0.1:{sample_port}"
        self.data = folder / "data"
        self.client = httpx2.Client(base_url=self.url, timeout=10, trust_env=False)
        operations_file = folder / "operations.toml"
        operations_file.write_text(operations)
        values = {
            "PORT": str(port),
            "SAMPLE_PORT": str(sample_port),
            "DATA": str(self.data),
            "OPERATIONS_FILE": str(operations_file),
            "OPERATIONS": "tests.support.operations",
            **(settings or {}),
        }
        self.process = ChildProcess(
            [sys.executable, "-m", module],
            log=folder / "embedded.log",
            environment={f"TIDEGATE_{name}": value for name, value in values.items()},
        )

    def start(self) -> None:
        """Starts it and waits until it is ready; a second time with the data of the first."""
        self.process.start()
        try:
            wait_until(self._is_ready, description=f"{self.url} is ready", timeout_seconds=START_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()[-5000:]}") from None

    def stop(self) -> None:
        """SIGTERM; asserts that it ended in time, with code 0, and that none of its processes outlived it."""
        stack = self._stack()
        try:
            code = self.process.stop(timeout_seconds=STOP_SECONDS)
        finally:
            _, left = psutil.wait_procs(stack, timeout=1)
            left = [process for process in left if _is_alive(process)]
            descriptions = [_describe(process) for process in left]
            for process in left:
                process.kill()
            self.client.close()
        assert code == 0, f"it ended with {code}:\n{self.logs()[-5000:]}"
        assert not descriptions, f"it left behind: {descriptions}\n{self.logs()[-5000:]}"

    def pid(self, name: str) -> int:
        """Of `supervisor`, `web`, `scheduler`, `broker`, `io-1`, `cpu-1`, `webhooks-1`, as its pid file says now."""
        return int((self.data / "run" / f"{name}.pid").read_text())

    def logs(self) -> str:
        """What all of its processes wrote."""
        return self.process.logs()

    def submit(
        self,
        operation: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """Submits a job, `content` as it is or `json`, and returns the answer whatever it is."""
        url = f"/v1/operations/{operation}/jobs"
        if content is not None:
            return self.client.post(url, content=content, headers=headers)
        return self.client.post(url, json=json, headers=headers)

    def wait_final(self, job_url: str, *, timeout_seconds: float = 30) -> httpx2.Response:
        """Polls a job until it is final and returns that answer. A web process that is away is waited for."""

        def answer() -> httpx2.Response | None:
            try:
                response = self.client.get(job_url)
            except httpx2.TransportError:
                return None
            if "Tidegate-Job-State" not in response.headers:
                # 502 and 504 without it are no job's; a 503 is the database's and passes.
                assert response.status_code == 503, f"{job_url} answers {response.status_code}: {response.text[:1000]}"
                return None
            return None if response.status_code == 202 else response

        # Not the response itself for its truth, which is that of its status.
        return wait_until(
            lambda: [found] if (found := answer()) is not None else [],
            description=f"{job_url} is final",
            timeout_seconds=timeout_seconds,
        )[0]

    def _is_ready(self) -> bool:
        if not self.process.is_running:
            raise AssertionError(f"it ended with {self.process.exit_code} before it was ready")
        return f"Tidegate is ready at {self.url}" in self.process.logs_since_start()

    def _stack(self) -> list[psutil.Process]:
        """Its processes: children of the supervisor, and whatever a pid file names if the supervisor was killed."""
        pids = {int(file.read_text()) for file in (self.data / "run").glob("*.pid")} | {self.process.pid}
        found: set[psutil.Process] = set()
        for pid in pids:
            try:
                process = psutil.Process(pid)
                found |= {process, *process.children(recursive=True)}
            except psutil.NoSuchProcess:
                continue
        return [process for process in found if process.pid != self.process.pid]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.Error:
        return str(process.pid)
