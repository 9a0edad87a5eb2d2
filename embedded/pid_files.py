"""Pid files and the supervisor's lock in the run folder; stops processes that a killed supervisor left behind."""

import fcntl
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import psutil

from tidegate import clock
from tidegate.errors import ConfigurationError

SUPERVISOR = "supervisor"
# Each of our processes has one of these in its command line: a pid in a stale file may be another program's by now.
MARKS = ("webapp", "tasks.scheduler", "tasks.steward", "tasks.app", "demo.downstream", "--maxmemory-policy")
LEFTOVER_GRACE = timedelta(seconds=3)


class PidFile:
    """The file `<name>.pid` with a process's pid and a newline."""

    def __init__(self, run_folder: Path, name: str) -> None:
        self._path = run_folder / f"{name}.pid"

    def write(self, pid: int) -> None:
        """Writes the pid atomically: a reader sees the old pid or the new one, never half of it."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{pid}\n")
        new.replace(self._path)

    def remove(self) -> None:
        """Removes the file, if it exists."""
        self._path.unlink(missing_ok=True)

    def read(self) -> int | None:
        """The pid in the file; None without a file or a number in it."""
        try:
            return int(self._path.read_text())
        except (OSError, ValueError):
            return None


@contextmanager
def only_supervisor(run_folder: Path) -> Iterator[None]:
    """Holds the folder's lock and writes our pid file.

    Raises ConfigurationError when another supervisor holds it or the folder can't be made.
    The lock is the system's (flock): it is gone with its holder, however that one ended.
    """
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"TIDEGATE_DATA: {run_folder} can't be made ({error.strerror})") from None
    pid_file = PidFile(run_folder, SUPERVISOR)
    with (run_folder / "supervisor.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Tidegate already runs on {run_folder.parent}, its supervisor has pid {pid_file.read() or 'unknown'}; "
                "stop that one first, or set TIDEGATE_DATA to another folder"
            ) from None
        pid_file.write(os.getpid())
        try:
            yield
        finally:
            pid_file.remove()


def stop_leftovers(run_folder: Path, data: Path) -> list[str]:
    """Stops the processes that a killed supervisor left running on `data`; returns their names.

    Needs the supervisor's lock. A process is ours when its command line says so and its environment names no
    other data folder; then its whole group is stopped, for a group's number is never given to another while
    somebody is left in it.
    """
    groups: dict[int, str] = {}
    stale = [path for path in run_folder.glob("*.pid") if path.stem != SUPERVISOR]
    for path in stale:
        group = PidFile(run_folder, path.stem).read()
        if group and any(_is_ours(process, data) for process in _members(group)):
            groups[group] = path.stem
    _signal(groups, signal.SIGTERM)
    give_up_at = clock.monotonic() + LEFTOVER_GRACE.total_seconds()
    while any(_members(group) for group in groups) and clock.monotonic() < give_up_at:
        clock.sleep(0.05)
    _signal(groups, signal.SIGKILL)
    for path in stale:
        path.unlink(missing_ok=True)
    return sorted(groups.values())


def _members(group: int) -> list[psutil.Process]:
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (psutil.Error, OSError):
            continue  # it ended meanwhile, or is not ours to look at
    return members


def _is_ours(process: psutil.Process, data: Path) -> bool:
    try:
        # Where the system shows no environment, the command line must do.
        same_data = process.environ().get("TIDEGATE_DATA", str(data)) == str(data)
        return same_data and any(mark in word for word in process.cmdline() for mark in MARKS)
    except (psutil.Error, OSError):
        return False


def _signal(groups: Iterable[int], number: signal.Signals) -> None:
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):  # it is gone
            os.killpg(group, number)
