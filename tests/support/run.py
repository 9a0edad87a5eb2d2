"""One run of pytest: the folder that all its processes share, a lock, and the list of what is to be ended with it.

With pytest-xdist a run is several processes: the main one begins and ends it, the workers join it.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support import guardian

# A PostgreSQL database is some 900 small files: 15 ms to copy in memory, up to 300 ms on a disk.
_MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of our own in it
_ENOUGH_BYTES = 2 * 1024**3

_folder: Path | None = None
_guardian: subprocess.Popen[bytes] | None = None


def begin() -> None:
    """Called once by the main process: makes the folder and starts the guardian."""
    global _guardian  # noqa: PLW0603 - a process belongs to one run
    # Not in pytest's basetemp, which only its owner may enter: PostgreSQL runs as another user when we are root.
    path = Path(tempfile.mkdtemp(prefix="tidegate-tests-", dir=_folder_in_memory()))
    path.chmod(0o711)
    (path / "processes").mkdir()
    join(path)
    _guardian = subprocess.Popen(
        [sys.executable, guardian.__file__, str(path)], stdin=subprocess.PIPE, start_new_session=True
    )


def join(path: Path) -> None:
    """Called by an xdist worker with the folder of the run that it belongs to."""
    global _folder  # noqa: PLW0603 - a process belongs to one run
    _folder = path


def end() -> None:
    """Called once by the main process: everything that still runs is ended, the folder removed."""
    if _guardian:
        _guardian.communicate()
        shutil.rmtree(folder(), ignore_errors=True)


def folder() -> Path:
    """Where the processes of this run keep what they share."""
    if _folder is None:
        raise RuntimeError("no test run has begun: tests/conftest.py begins it")
    return _folder


def will_end(pid: int) -> None:
    """The process is ended at the end of the run at the latest."""
    (folder() / "processes" / str(pid)).write_text(str(psutil.Process(pid).create_time()))


def has_ended(pid: int) -> None:
    """The process is gone and its number may be another's."""
    (folder() / "processes" / str(pid)).unlink(missing_ok=True)


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """One process of the run at a time; a process that dies inside lets the next one in."""
    descriptor = os.open(folder() / f"{name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _folder_in_memory() -> Path | None:
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ENOUGH_BYTES:
        return _MEMORY
    return None
