"""The load: wrk, which costs the server beside it as little as any client can (apt install wrk, brew install wrk)."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.commands import HOST

CONNECTIONS = 32
# At a given rate requests come when they come, whether or not others have been answered: with enough connections
# none of them waits for one.
_CONNECTIONS_AT_A_RATE = 128
_TIMEOUT_SECONDS = 30

_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is sent again and again; of several paths one after the other."""

    paths: Sequence[str]
    method: str = "GET"
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What came back; times in seconds."""

    per_second: float
    median: float
    p99: float


def submits(path: str) -> Request:
    """A submit of a small JSON document."""
    return Request(paths=[path], method="POST", body='{"n": 1}', headers={"Content-Type": "application/json"})


def put_on(port: int, request: Request, seconds: float, *, per_second: float | None = None) -> Answers:
    """Sends as much as 32 connections can, or so much a second (Poisson). Raises RuntimeError at any status of 400
    and above, and when an answer does not come."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("wrk is not installed: apt install wrk, or brew install wrk")
    connections = CONNECTIONS if per_second is None else _CONNECTIONS_AT_A_RATE
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"local plan = {_lua(request, per_second)}\n{_SCRIPT.read_text()}")
        script.flush()
        options = ("--threads", "1", "--connections", str(connections), "--timeout", f"{_TIMEOUT_SECONDS}s")
        url = f"http://{HOST}:{port}"
        done = subprocess.run(
            [wrk, *options, "--duration", f"{max(1, round(seconds))}s", "--script", script.name, url],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
    figures = json.loads(done.stdout.splitlines()[-1])
    if figures["failed"]:
        raise RuntimeError(f"{request.method} {request.paths[0]}: {figures['failed']} answers were wrong: {figures}")
    return Answers(
        per_second=1e6 * figures["answers"] / figures["microseconds"],
        median=figures["median"] / 1e6,
        p99=figures["p99"] / 1e6,
    )


def _lua(request: Request, per_second: float | None) -> str:
    headers = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in request.headers.items())
    paths = ", ".join(map(json.dumps, request.paths))
    rate = "nil" if per_second is None else f"{per_second:.3f}"
    body = json.dumps(request.body)
    return (
        f'{{method = "{request.method}", body = {body}, headers = {{{headers}}}, paths = {{{paths}}}, rate = {rate}}}'
    )
