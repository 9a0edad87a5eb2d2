"""Processes that an operation of the cpu queue starts, such as a process pool: allowed, and ended with their attempt.

A child of the worker may end in three ways: its attempt returns, its hard limit ends it, or something kills it. Each
time nothing that it has started is left, not even what has made itself a session of its own.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.process import AuthenticationString  # type: ignore[attr-defined] # typeshed lacks it
from typing import Any

import psutil
from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool

_PR_SET_CHILD_SUBREAPER = 36
_REAP_SECONDS = 1.0


def install() -> None:
    """Lets the worker's pool end whole trees. Call it in the worker before its pool starts."""
    TaskPool.Pool = TreePool


def allow_children() -> None:
    """Lets this child of the worker start processes by `multiprocessing`.

    As Celery's billiard made it, it is a daemon, which may have no children, and its key may not be handed to any.
    """
    _adopt_orphans()
    current = multiprocessing.current_process()
    current.daemon = False
    # Python's own setter makes a key of billiard's kind again.
    current._config["authkey"] = AuthenticationString(os.urandom(32))  # type: ignore[attr-defined]  # noqa: SLF001


def descendants() -> list[psutil.Process]:
    """All that this process has started, and what those have."""
    return _below(os.getpid()) if _has_children() else []


def end_children() -> int:
    """Ends the descendants of this process; how many still ran."""
    return end(descendants())


def end(processes: Iterable[psutil.Process]) -> int:
    """Kills processes and reaps those that are our children; how many still ran."""
    killed, running = [], 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            running += process.status() != psutil.STATUS_ZOMBIE
            process.kill()
            killed.append(process)
    psutil.wait_procs(killed, timeout=_REAP_SECONDS)
    return running


class TreePool(AsynPool):
    """Celery's pool of processes, which ends with each of them what it has started.

    On Linux what a killed child leaves behind becomes a child of the worker; elsewhere it stays.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        _adopt_orphans()
        super().__init__(*args, **options)
        self._others = {child.pid for child in psutil.Process().children()} - self._pids()

    # billiard has both for its subclasses, and Celery's stubs have neither.
    def _trywaitkill(self, worker: Any) -> None:
        """Ends a child whose hard limit is over."""
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGSTOP)  # so that it starts nothing more meanwhile
        below = _below(worker.pid)
        super()._trywaitkill(worker)  # type: ignore[misc]
        end(below)

    def _join_exited_workers(self, shutdown: bool = False) -> Any:
        """Joins the children that have ended; what they left behind is ours now."""
        cleaned = super()._join_exited_workers(shutdown=shutdown)  # type: ignore[misc]
        if cleaned:
            ours = self._pids() | self._others
            orphans = [child for child in psutil.Process().children() if child.pid not in ours]
            end([each for orphan in orphans for each in (orphan, *_below(orphan.pid))])
        return cleaned

    def _pids(self) -> set[int]:
        return {worker.pid for worker in self._pool}  # type: ignore[attr-defined]


def _adopt_orphans() -> None:
    """Makes what those leave behind that this process has started its own children."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _has_children() -> bool:
    """Whether this process has any, ended or not; one call of the system, for it is asked after each attempt."""
    if sys.platform == "darwin":
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _below(pid: int) -> list[psutil.Process]:
    try:
        found = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    # Python's own helper, which ends by itself with its parent; a new one would be warned about.
    tracker = getattr(resource_tracker, "_resource_tracker", None)
    return [process for process in found if process.pid != getattr(tracker, "_pid", None)]
