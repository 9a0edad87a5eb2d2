"""Workers that the supervisor starts and retires, with real child processes in their place."""

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from config.settings import Settings
from embedded.output import Output
from embedded.processes import Program
from embedded.stack import programs
from embedded.supervisor import Supervisor, names
from embedded.wanted_workers import APART, APART_WHILE_QUIET, Answer, WantedWorkers, asking
from embedded.worker_set import START_APART, WorkerSet
from tests.support.waiting import wait_until
from tidegate.dispatch.scale import Wanted
from tidegate.errors import DatabaseUnreachableError
from tidegate.operations.worker_range import WorkerRange

WORKER = """
import os, signal, sys, time
from pathlib import Path
folder, name = Path(sys.argv[1]), sys.argv[2]
asked = []
signal.signal(signal.SIGUSR2, lambda *_: asked.append(1))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
for kind in ('alive', 'process'):
    (folder / f'{name}.{kind}').touch()
print('ready')
while not asked or (folder / f'{name}.busy').exists():
    time.sleep(0.02)
"""


def wanted(number: int) -> Wanted:
    """So many workers."""
    return Wanted(workers=0, places=0, wanted=number, because=f"{number} are of use")


class Stage:
    """A supervisor of one set of workers, `io`, whose wanted number a test says."""

    def __init__(self, folder: Path, number: str, code: str = WORKER) -> None:
        self.folder = folder
        self.written = io.StringIO()
        self.wanted: Mapping[str, Wanted] | None = None
        workers = WorkerSet(
            queue="io",
            range=WorkerRange.parse(number),
            program=lambda name: Program(
                name=name,
                arguments=(sys.executable, "-c", code, str(folder), name),
                environment={**os.environ, "PYTHONUNBUFFERED": "1"},
                grace=timedelta(seconds=5),
            ),
        )
        groups = [[workers]]
        self.supervisor = Supervisor(groups, folder, Output(names(groups), self.written), lambda: self.wanted)
        self.supervisor.start()
        self.watch_until(lambda: self.said("ready") == workers.range.lowest, "the first are ready")

    def want(self, number: int) -> None:
        """So many are wanted from now on."""
        self.wanted = {"io": wanted(number)}

    def said(self, words: str) -> int:
        """How often it was said."""
        return self.written.getvalue().count(words)

    def pids(self) -> dict[str, int]:
        """By name, as the pid files say it."""
        return {path.stem: int(path.read_text()) for path in sorted(self.folder.glob("*.pid"))}

    def health_files(self) -> list[str]:
        """What workers touch while they live."""
        return sorted(path.name for kind in ("alive", "process") for path in self.folder.glob(f"*.{kind}"))

    def keep_busy(self, name: str) -> Path:
        """The worker of this name has a call open until the file is removed."""
        busy = self.folder / f"{name}.busy"
        busy.touch()
        return busy

    def watch(self) -> None:
        """One turn."""
        self.supervisor.watch_once()
        self.supervisor.scale_once()
        running = {process.program.name: process.pid for process in self.supervisor.processes if process.pid}
        assert running.items() <= self.pids().items(), "a worker runs without its pid file"
        assert self.pids().keys() <= {process.program.name for process in self.supervisor.processes}

    def watch_until(self, condition: Callable[[], object], description: str) -> None:
        """Lets the supervisor take its turns until the condition holds."""

        def take_a_turn() -> object:
            self.watch()
            return condition()

        wait_until(take_a_turn, description=description)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Makes a stage; what runs on it is stopped at the end."""
    with ExitStack() as stack:

        def make(number: str, code: str = WORKER) -> Stage:
            made = Stage(tmp_path, number, code)
            stack.callback(made.supervisor.stop)
            return made

        yield make


def test_workers_are_started_while_they_are_wanted_and_the_newest_retire_first(stage: Callable[..., Stage]) -> None:
    on = stage("1-3")
    assert list(on.pids()) == ["io-1"]
    first = on.pids()["io-1"]

    on.want(9)
    began = time.monotonic()
    on.watch_until(lambda: on.said("ready") == 3, "all that there may be run")
    assert time.monotonic() - began >= START_APART.total_seconds(), "not both at once"
    assert list(on.pids()) == ["io-1", "io-2", "io-3"]
    assert "io-2 is started, as one of 3: 9 are of use" in on.written.getvalue()

    on.want(2)
    on.watch_until(lambda: list(on.pids()) == ["io-1", "io-2"], "the newest is gone")
    assert "io-3 retires when its calls have ended, leaving 2: 2 are of use" in on.written.getvalue()
    assert "io-3 has retired" in on.written.getvalue()
    assert on.health_files() == ["io-1.alive", "io-1.process", "io-2.alive", "io-2.process"]

    on.wanted = {}
    on.watch_until(lambda: list(on.pids()) == ["io-1"], "nothing is wanted, and the fewest stay")
    assert on.pids()["io-1"] == first
    assert on.said("died") == 0


def test_a_fixed_number_stays_whatever_is_wanted(stage: Callable[..., Stage]) -> None:
    on = stage("2")
    before = on.pids()
    for number in (0, 9, 1):
        on.want(number)
        for _ in range(3):
            on.watch()
    assert on.pids() == before


def test_all_stay_while_it_is_not_known_what_is_wanted(stage: Callable[..., Stage]) -> None:
    on = stage("1-2")
    on.want(2)
    on.watch_until(lambda: on.said("ready") == 2, "two run")
    before = on.pids()

    on.wanted = None
    for _ in range(10):
        on.watch()
    assert on.pids() == before


def test_a_worker_retires_only_when_its_calls_are_over_and_another_may_start_beside_it(
    stage: Callable[..., Stage],
) -> None:
    on = stage("1-2")
    on.want(2)
    on.watch_until(lambda: on.said("ready") == 2, "two run")
    retiring = on.pids()["io-2"]
    busy = on.keep_busy("io-2")

    on.want(1)
    on.watch_until(lambda: on.said("io-2 retires"), "it was asked")
    for _ in range(5):
        on.watch()
    assert on.pids()["io-2"] == retiring, "it has a call open"

    on.want(2)
    on.watch_until(lambda: on.said("ready") == 3, "another one runs")
    assert list(on.pids()) == ["io-1", "io-2", "io-3"], "under a name of its own"
    assert on.pids()["io-2"] == retiring

    busy.unlink()
    on.watch_until(lambda: list(on.pids()) == ["io-1", "io-3"], "its call is over, and it is gone")
    on.want(1)
    on.watch_until(lambda: list(on.pids()) == ["io-1"], "the newest is gone")
    on.want(2)
    on.watch_until(lambda: list(on.pids()) == ["io-1", "io-2"], "the name is free again")


def test_a_worker_that_dies_while_it_retires_is_told_and_not_started_again(stage: Callable[..., Stage]) -> None:
    on = stage("1-2")
    on.want(2)
    on.watch_until(lambda: on.said("ready") == 2, "two run")
    on.keep_busy("io-2")
    on.want(1)
    on.watch_until(lambda: on.said("io-2 retires"), "it was asked")

    os.kill(on.pids()["io-2"], signal.SIGKILL)
    wait_until(lambda: psutil.Process(on.pids()["io-2"]).status() == psutil.STATUS_ZOMBIE, description="it is dead")
    on.watch_until(lambda: list(on.pids()) == ["io-1"], "its pid file is gone")
    assert "io-2 ended with signal SIGKILL while it retired" in on.written.getvalue()


def test_everything_stops_while_one_retires(stage: Callable[..., Stage]) -> None:
    on = stage("1-2")
    on.want(2)
    on.watch_until(lambda: on.said("ready") == 2, "two run")
    on.keep_busy("io-2")
    on.want(1)
    on.watch_until(lambda: on.said("io-2 retires"), "it was asked")
    pids = on.pids().values()

    on.supervisor.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert on.pids() == {}
    assert on.said("did not stop in time") == 0


def test_a_worker_that_dies_again_and_again_counts_as_one_and_retires_first(stage: Callable[..., Stage]) -> None:
    dies = f"import sys; sys.argv[2] == 'io-2' and sys.exit(3)\n{WORKER}"
    on = stage("1-3", dies)
    on.want(2)
    on.watch_until(lambda: on.said("io-2 died"), "it was started")
    on.watch_until(lambda: on.said("2 times in a row"), "and again")
    assert on.said("is started, as one of") == 1, "no third one in its place"

    on.want(3)
    on.watch_until(lambda: on.said("io-3 is started"), "a third one is wanted, too")
    on.watch_until(lambda: on.said("ready") == 2 and "io-3" in on.pids(), "it runs")
    on.want(2)
    on.watch_until(lambda: on.said("io-2 retires"), "who does not run goes first, though another is newer")


def test_what_cant_be_asked_is_not_known_until_it_answers_again() -> None:
    answers: list[Mapping[str, Wanted] | None] = [{"io": wanted(2)}, None, {}]

    def ask() -> Mapping[str, Wanted]:
        answer = answers.pop(0)
        if answer is None:
            raise DatabaseUnreachableError("it is away")
        return answer

    asked = WantedWorkers(ask)
    found: list[Answer] = [asked()]
    for _ in range(3):
        asked.ask_once()
        found.append(asked())
    assert found == [None, {"io": wanted(2)}, None, {}]


def test_it_asks_seldom_while_nothing_is_wanted() -> None:
    answers: list[Mapping[str, Wanted]] = [{"io": wanted(0)}, {"io": wanted(0), "cpu": wanted(1)}, {}]
    asked = WantedWorkers(lambda: answers.pop(0))
    apart = [asked.apart]
    for _ in range(3):
        asked.ask_once()
        apart.append(asked.apart)
    assert apart == [APART, APART_WHILE_QUIET, APART, APART_WHILE_QUIET]


def test_nobody_is_asked_where_every_number_is_fixed(tmp_path: Path) -> None:
    fixed = WorkerRange.parse("2")
    settings = Settings(data=tmp_path, io_workers=fixed, broker_url="redis://127.0.0.1:1", sample_port=0)
    with asking(settings, programs(settings)) as wanted:
        assert wanted() is None
        assert "wanted-workers" not in {thread.name for thread in threading.enumerate()}
    assert not (tmp_path / "tidegate.db").exists()
