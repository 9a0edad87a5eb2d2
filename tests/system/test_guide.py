"""docs/your-own-api.md as a new user follows it: its file, and each of its commands in its order."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.support.processes import REPOSITORY, ChildProcess, free_port
from tests.support.waiting import wait_until
from tidegate_client import Client, State

GUIDE = (REPOSITORY / "docs" / "your-own-api.md").read_text(encoding="utf-8")
FILE = REPOSITORY / "docs" / "your-own-api" / "operations.toml"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCKS if found == language]


def test_the_file_in_the_guide_is_the_file_beside_it() -> None:
    assert blocks("toml") == [FILE.read_text(encoding="utf-8")]


@dataclass(frozen=True)
class User:
    """Somebody with an empty folder, the source in it, and ports of their own."""

    folder: Path
    port: int
    api_port: int

    def own(self, text: str) -> str:
        """The guide's words with this user's ports."""
        return text.replace("8000", str(self.port)).replace("9000", str(self.api_port))

    def start(self, command: str) -> ChildProcess:
        """Types a command that stays."""
        environment = {
            "TIDEGATE_PORT": str(self.port),
            "TIDEGATE_SAMPLE_PORT": "0",
            "PYTHONPATH": str(REPOSITORY / "client"),
            "PWD": str(self.folder),
        }
        name = re.sub(r"\W+", "-", command)[:20]
        *way, last = self.own(command).strip().split(" && ")
        command = " && ".join([f"cd {self.folder}", *way, f"exec {last}"])
        process = ChildProcess(["sh", "-c", command], log=self.folder / f"{name}.log", environment=environment)
        process.start()
        return process

    def run(self, commands: str) -> str:
        """Types commands, each of which must succeed; what they wrote."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        done = subprocess.run(
            ["sh", "-e", "-c", self.own(commands)],
            cwd=self.folder,
            env={**kept, "TIDEGATE_URL": self.own("http://127.0.0.1:8000"), "PYTHONPATH": str(REPOSITORY / "client")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def user(tmp_path: Path) -> User:
    """The source without its environment; that of the tests stands for what `make` would install."""
    source = tmp_path / "tidegate"
    (source / ".venv" / "bin").mkdir(parents=True)
    for entry in REPOSITORY.iterdir():
        if entry.name not in {".venv", ".git", ".env", "data"}:
            (source / entry.name).symlink_to(entry)
    commands = {"python": f'exec {sys.executable} "$@"', "tidegate": f'exec {sys.executable} -m tidegate_client "$@"'}
    for name, command in commands.items():
        script = source / ".venv" / "bin" / name
        script.write_text(f"#!/bin/sh\n{command}\n")
        script.chmod(0o755)
    (source / ".venv" / ".runtime").touch()
    return User(tmp_path, free_port(), free_port())


def test_a_new_user_gets_from_an_empty_folder_to_a_paced_burst(user: User) -> None:
    sample, start, first, burst, knobs = blocks("sh")
    (program,) = blocks("python")
    (user.folder / "operations.toml").write_text(user.own(blocks("toml")[0]))
    processes = [user.start(sample)]
    try:
        processes[0].wait_for_log("listening on")
        processes.append(user.start(start))
        ready = user.own("http://127.0.0.1:8000/health/ready")

        def is_ready() -> bool:
            assert processes[-1].is_running, processes[-1].logs()
            try:
                return httpx2.get(ready, trust_env=False).status_code == 200
            except httpx2.TransportError:
                return False

        wait_until(is_ready, description="it is ready", timeout_seconds=60)
        path = next(line for line in first.splitlines() if line.startswith("export PATH"))
        assert "no fault" in user.run("tidegate/.venv/bin/tidegate check operations.toml")
        assert '"total": 954.84' in user.run(first)

        written = user.run(f"{path}\n{burst}".replace("tidegate watch", "tidegate watch --once"))
        assert "pricing" in written
        with Client(user.own("http://127.0.0.1:8000")) as client:
            jobs = list(client.jobs(operation="price"))
            assert len(jobs) == 41
            assert {job.wait(60).state for job in jobs} == {State.SUCCEEDED}
            lane = user.run(f"{path}\n{knobs}")
            assert "2/s, 2 at once (changed)" in lane
            assert "paused" in lane
            assert client.downstream("pricing")["changed"] == []

        (user.folder / "program.py").write_text(user.own(program))
        assert user.run(f"{sys.executable} program.py") == "954.84\n"
        stats = httpx2.get(user.own("http://127.0.0.1:9000/stats"), trust_env=False).json()
        assert (stats["accepted"], stats["refused_rate"], stats["refused_concurrency"]) == (42, 0, 0)
        assert stats["max_open"] <= 2
    finally:
        for process in reversed(processes):
            process.stop(timeout_seconds=15)
