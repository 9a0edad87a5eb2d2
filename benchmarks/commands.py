"""How the processes of a measurement are started, and how one knows that they are ready."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.processes import ChildProcess
from tests.support.waiting import wait_until

HOST = "127.0.0.1"
THREADS = 8
STOP_SECONDS = 5
DOWNSTREAM = "benchmarks.pacing.downstream"


def python_process(folder: Path, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> ChildProcess:
    """`python -m …` with its log in the folder; not started yet."""
    return ChildProcess([sys.executable, "-m", *arguments], log=folder / f"{name}.log", environment=environment)


def web_arguments(app: str, port: int, *, processes: int, threads: int) -> Sequence[str]:
    """A granian server, as the embedded default starts it."""
    return (
        *("granian", "--interface", "wsgi", "--host", HOST, "--port", str(port), "--workers", str(processes)),
        *("--blocking-threads", str(threads), "--respawn-failed-workers", "--no-ws"),
        *("--workers-kill-timeout", str(STOP_SECONDS), app),
    )


def worker_arguments(app: str, name: str, queue: str, *, pool: str = "threads", size: int = THREADS) -> Sequence[str]:
    """A Celery worker that runs `size` tasks side by side, as the embedded default starts it."""
    return (
        *("celery", "--quiet", "-A", app, "worker", "--pool", pool, "--concurrency", str(size)),
        *("-Q", queue, "-n", f"{name}@tidegate", "--without-gossip", "--without-mingle", "--loglevel", "INFO"),
    )


def downstream_arguments(port: int, log: Path, *strictness: str, module: str = DOWNSTREAM) -> Sequence[str]:
    """A downstream that writes down when each call came; it takes everything, without further options."""
    return (module, "--port", str(port), "--log", str(log), *strictness)


def await_worker(workers: Sequence[ChildProcess], *, all_of_them: bool = True) -> None:
    """Waits until the workers, or the first of them, say that they are ready."""
    _await(workers, "ready.", all if all_of_them else any)


def await_scheduler(scheduler: ChildProcess) -> None:
    """Waits until the scheduler says that it is at work."""
    _await([scheduler], "scheduler of ", all)


def _await(processes: Sequence[ChildProcess], words: str, which: Callable[[Iterator[bool]], bool]) -> None:
    def is_written() -> bool:
        for process in processes:
            if not process.is_running:
                raise RuntimeError(f"{process.command} ended:\n{process.logs()[-3000:]}")
        return which(words in process.logs_since_start() for process in processes)

    wait_until(is_written, description=f"{words!r} is in the log", timeout_seconds=60)
