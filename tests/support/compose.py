"""The stack of docker-compose.yml on a real engine: built, started, scaled, spoken to, and its containers killed."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx2

from tests.support.processes import REPOSITORY, free_port
from tests.support.shell import sh
from tests.support.waiting import wait_until

# One name: what an interrupted run left behind is removed by the next.
PROJECT = "tidegate-test"
IMAGE = "tidegate:test"
# Variables that name the images of others, each with the series that the image's version belongs to: an engine that has
# the series only, and reaches no registry, is good enough for these tests.
SERIES = {
    "STACK_PYTHON_IMAGE": "python:3.13-slim",
    "STACK_POSTGRES_IMAGE": "postgres:17",
    "STACK_REDIS_IMAGE": "redis:8",
}
SECRETS = ("postgres_password", "database_url", "redis.conf", "broker_url", "flower_auth", "webhook_key", "signing_key")
_MINUTES = 60


def why_not() -> str | None:
    """Why there can be no stack here; None: there can. Fetches the images that are missing."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        if fault := _fault(command, seconds=20):
            return fault
    for image in images().values():
        if fault := _fault(["docker", "image", "inspect", image], seconds=20):
            return fault
    probe = (
        f"FROM {images()['STACK_PYTHON_IMAGE']}\nRUN pip download --no-deps --no-cache-dir --quiet --dest /tmp wheel\n"
    )
    if _fault(["docker", "build", "--quiet", f"--network={_build_network()}", "-"], seconds=3 * _MINUTES, stdin=probe):
        return "a build on it reaches no package index"
    return None


@cache
def images() -> dict[str, str]:
    """The image behind each variable: the exact one, fetched where that is possible, else one of its series."""
    return {
        variable: os.environ.get(variable)
        or next((name for name in (exact, SERIES[variable]) if _is_here(name)), exact)
        for variable, exact in exact_images().items()
    }


def exact_images() -> dict[str, str]:
    """The images by which the Dockerfile and docker-compose.yml say these variables."""
    text = "".join((REPOSITORY / name).read_text() for name in ("Dockerfile", "docker-compose.yml"))
    return {variable: re.findall(rf"{variable}(?::-|=)([^\s}}]+)", text)[0] for variable in SERIES}


def _is_here(image: str) -> bool:
    """Whether the engine has it, or could fetch it."""
    return any(
        _fault(command, seconds=5 * _MINUTES) is None
        for command in (["docker", "image", "inspect", image], ["docker", "pull", "--quiet", image])
    )


def _build_network() -> str:
    """On which network the image is built, by docker-compose.yml and the override."""
    config = subprocess.run(
        ["docker", "compose", "config", "--format", "json"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    network: str = json.loads(config.stdout)["services"]["migrate"]["build"].get("network", "default")
    return network


def _fault(command: Sequence[str], *, seconds: float, stdin: str = "") -> str | None:
    try:
        asked = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=seconds, cwd=REPOSITORY
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"`{' '.join(command)}`: {error}"
    said = asked.stderr.strip().splitlines() or ["it said nothing"]
    return f"`{' '.join(command)}`: {said[-1]}" if asked.returncode else None


class Compose:
    """One project with ports, passwords and volumes of its own.

    COMPOSE_FILE may name an override beside docker-compose.yml, for an engine that needs one; no .env is read.
    `root`: the folder that commands are typed in. One that is not the repository has a compose file of its own.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        *,
        root: Path = REPOSITORY,
        project: str = PROJECT,
        image: str = IMAGE,
    ) -> None:
        self._root = root
        self.image = image
        self.secrets = folder / "secrets"
        self.port, self.flower_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.flower_url = f"http://127.0.0.1:{self.flower_port}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")},
            **{f"TIDEGATE_{name}": value for name, value in settings.items()},
            "COMPOSE_PROJECT_NAME": project,
            "COMPOSE_DISABLE_ENV_FILE": "true",
            "STACK_IMAGE": image,
            "STACK_TIDEGATE_IMAGE": IMAGE,
            **images(),
            "STACK_SECRETS": str(self.secrets),
            "TIDEGATE_PORT": str(self.port),
            "FLOWER_PORT": str(self.flower_port),
        }
        if root != REPOSITORY:
            self._environment.pop("COMPOSE_FILE", None)
        self.make_secrets()

    def make_secrets(self) -> str:
        """Runs the script that makes the passwords and returns what it says."""
        return self.shell(f"sh {REPOSITORY}/config/stack/make-secrets.sh")

    def set(self, name: str, value: str) -> None:
        """Changes a setting for every container that is made from now on; `name` without TIDEGATE_."""
        self._environment[f"TIDEGATE_{name}"] = value

    def set_number(self, service: str, number: int) -> None:
        """Changes how many containers of a service there are to be."""
        self._environment[f"STACK_{service.upper().replace('-', '_')}"] = str(number)

    @contextmanager
    def overridden(self, text: str) -> Iterator[None]:
        """Within it this lies over docker-compose.yml."""
        file = self.secrets.parent / "override.yml"
        file.write_text(text)
        before = self._environment.get("COMPOSE_FILE")
        self._environment["COMPOSE_FILE"] = os.pathsep.join([before or "docker-compose.yml", str(file)])
        try:
            yield
        finally:
            del self._environment["COMPOSE_FILE"]
            self._environment |= {"COMPOSE_FILE": before} if before else {}

    def forget(self, *names: str) -> None:
        """Takes settings back."""
        for name in names:
            del self._environment[f"TIDEGATE_{name}"]

    def roll(self, *services: str) -> None:
        """Runs the script that replaces the containers one by one."""
        self.shell(" ".join(["sh config/stack/roll.sh", *services]), minutes=15)

    def shell(self, command: str, *, minutes: float = 5) -> str:
        """Types a line in its root, with this project's ports and passwords; what it answers."""
        return sh(command, cwd=self._root, environment=self._environment, minutes=minutes)

    def secret(self, name: str) -> str:
        """What stands in one of them."""
        return (self.secrets / name).read_text().strip()

    def run(self, *arguments: str, minutes: float = 5, stdin: str | None = None) -> str:
        """`docker compose …`; its standard output. Raises AssertionError with what it wrote when it fails."""
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=self._root,
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=minutes * _MINUTES,
        )
        said = f"docker compose {' '.join(arguments)}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert done.returncode == 0, said
        return done.stdout

    def build(self) -> None:
        """Builds the image."""
        self.run("build", minutes=15)

    def up(self, **numbers: int) -> None:
        """Starts what is missing, as many as said (worker_io=3) from now on, and waits until all are well."""
        for service, number in numbers.items():
            self.set_number(service, number)
        self.run("up", "--detach", "--no-build", "--wait")

    def one_of_each(self) -> None:
        """Forgets the numbers that were said."""
        for name in [name for name in self._environment if name.startswith(("STACK_W", "STACK_SCHEDULER"))]:
            del self._environment[name]

    def down(self, *, volumes: bool) -> None:
        """Stops and removes the containers, and with `volumes` all that they kept."""
        self.run("down", "--remove-orphans", *(["--volumes"] if volumes else []))

    def config(self) -> dict[str, Any]:
        """docker-compose.yml as Compose reads it."""
        found: dict[str, Any] = json.loads(self.run("config", "--format", "json"))
        return found

    def containers(self, *services: str) -> list[str]:
        """The ids of the running containers of these services, or of all."""
        return self.run("ps", "--quiet", *services).split()

    def sql(self, statements: str) -> list[str]:
        """Has PostgreSQL run them; the lines that it answers."""
        psql = ("psql", "-XqtA", "--set=ON_ERROR_STOP=1", "--username=tidegate")
        return self.run("exec", "-T", "postgres", *psql, stdin=statements).split("\n")[:-1]

    def make_key(self, client: str, role: str) -> str:
        """Makes an API key, as docs/operating.md says."""
        return self.run("run", "--rm", "-T", "web", "tidegate", "keys", "create", client, "--role", role).strip()

    def client(self, key: str) -> httpx2.Client:
        """A client of the published port."""
        headers = {"Authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=self.url, timeout=10, trust_env=False, headers=headers)


def inspect(container: str) -> dict[str, Any]:
    """What the engine knows of a container."""
    found: dict[str, Any] = json.loads(docker("inspect", container))[0]
    return found


def docker(*arguments: str) -> str:
    """`docker …`; its standard output."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


def kill(container: str) -> None:
    """kill -9 of the whole container, behind the engine's back, so that its restart policy is what brings it back.

    Where its processes can't be reached from here (Docker in a virtual machine, or not as root) the engine kills it,
    which counts as a stop by hand, and starts it.
    """
    pid = inspect(container)["State"]["Pid"]
    if pid > 1 and container in _cgroup_of(pid) and os.geteuid() == 0:
        os.kill(pid, signal.SIGKILL)
    else:
        docker("kill", container)
        docker("start", container)


@contextmanager
def frozen(containers: Sequence[str]) -> Iterator[None]:
    """They stand still within it, as if the machine had: nothing of theirs ends, and nobody hears of it."""
    docker("pause", *containers)
    try:
        yield
    finally:
        docker("unpause", *containers)


def await_health(containers: Sequence[str], *, since: Mapping[str, str] | None = None) -> None:
    """Waits until each of them is well; with `since` (their `started_at`), after another start."""

    def is_well(container: str) -> bool:
        state = inspect(container)["State"]
        has_started = since is None or state["StartedAt"] != since[container]
        return bool(has_started and state["Status"] == "running" and state["Health"]["Status"] == "healthy")

    for container in containers:
        wait_until(partial(is_well, container), description=f"{container[:12]} is well", timeout_seconds=90)


def started_at(container: str) -> str:
    """When it was started last."""
    return str(inspect(container)["State"]["StartedAt"])


def _cgroup_of(pid: int) -> str:
    file = Path(f"/proc/{pid}/cgroup")
    return file.read_text() if file.exists() else ""


if __name__ == "__main__":
    sys.exit(why_not())
