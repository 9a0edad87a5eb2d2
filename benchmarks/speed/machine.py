"""What the figures were measured on."""

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil

from tests.support import postgresql
from tests.support.valkey import server_binary

_PACKAGES = ("celery", "flask", "granian", "kombu", "psycopg", "redis", "sqlalchemy")
_SYNCS = 20


def described() -> dict[str, str]:
    """The machine, the programs, and how busy it is now."""
    binaries = postgresql.find_binaries()
    return {
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{psutil.virtual_memory().total / 1024**3:.0f} GiB",
        "system": platform.platform(),
        "load": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
        "PostgreSQL": _output([str(binaries / "postgres"), "--version"]) if binaries else "none",
        "Valkey": _output([server_binary(), "--version"]),
        "Python": f"{platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        "commit": _output(["git", "describe", "--always", "--dirty"]),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip().splitlines()[0]


def sync_milliseconds(folder: Path) -> float:
    """How long the disk of this folder takes to keep a page: each commit waits for that at least."""
    with tempfile.TemporaryFile(dir=folder) as file:
        taken = []
        for _ in range(_SYNCS):
            file.write(bytes(8192))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(1000 * (time.perf_counter() - began))
    return median(taken)
