"""Ends the processes that a test run left behind. `python guardian.py FOLDER`, a process of its own.

Fixtures end what they start, but not when pytest is killed, a test's time-out leaves by os._exit, or an xdist
worker crashes. The guardian sits at a pipe whose other end only the run's main process holds: when that process is
gone, however it went, the pipe ends and everything listed in FOLDER/processes is ended too, and FOLDER removed.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

_GRACE_SECONDS = 2
_SAME_SECONDS = 5
# A worker of the run may live a moment longer than its main process and start one process more.
_ROUNDS = 3


def main() -> None:
    """Waits for the end of the pipe, then ends what is still listed."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    folder = Path(sys.argv[1])
    sys.stdin.buffer.read()
    for _ in range(_ROUNDS):
        if not _end_all(folder / "processes"):
            break
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def _end_all(listed: Path) -> bool:
    entries = list(listed.iterdir())
    doomed: list[psutil.Process] = []
    for entry in entries:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(entry.name))
            # Created at another time: the number belongs to somebody else by now. Exact it is not, clocks are adjusted.
            if abs(process.create_time() - float(entry.read_text())) < _SAME_SECONDS:
                doomed += [process, *process.children(recursive=True)]
        entry.unlink(missing_ok=True)
    # Interrupted first: PostgreSQL then shuts down fast and leaves no shared memory.
    for signal_number in (signal.SIGCONT, signal.SIGINT):
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)
    give_up_at = time.monotonic() + _GRACE_SECONDS
    while any(_is_alive(process) for process in doomed) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    for process in doomed:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return bool(entries)


def _is_alive(process: psutil.Process) -> bool:
    # A zombie is dead: its parent may be the run's main process, which waits for the guardian now.
    return process.is_running() and process.status() != "zombie"


if __name__ == "__main__":
    main()
