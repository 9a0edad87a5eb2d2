"""The supervisor: starts groups of processes in order, restarts those that die, and stops them in reverse order.

Our own code because none of circus, supervisor and honcho has restart backoff, readiness, pid files and a stop in
10 s together.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from embedded.output import Output
from embedded.processes import BAD_CONFIGURATION, Program, SupervisedProcess
from embedded.worker_set import SupervisedWorkers, WorkerSet
from tidegate import clock
from tidegate.dispatch.scale import Wanted

START_LIMIT = timedelta(seconds=60)
_TURN_SECONDS = 0.1


class _Group:
    """Processes that start and stop together: those of single programs, and workers that may become more or fewer."""

    def __init__(self, members: Sequence[Program | WorkerSet], run_folder: Path, output: Output) -> None:
        self._single = [SupervisedProcess(each, run_folder, output) for each in members if isinstance(each, Program)]
        self.workers = [SupervisedWorkers(each, run_folder, output) for each in members if isinstance(each, WorkerSet)]

    @property
    def processes(self) -> list[SupervisedProcess]:
        return [*self._single, *(process for each in self.workers for process in each.processes)]

    def watch(self) -> None:
        for process in self._single:
            process.watch()
        for workers in self.workers:
            workers.watch()


class Supervisor:
    """Runs groups of programs: starts them front to back, stops them back to front."""

    def __init__(
        self,
        groups: Sequence[Sequence[Program | WorkerSet]],
        run_folder: Path,
        output: Output,
        wanted: Callable[[], Mapping[str, Wanted] | None] = lambda: None,
    ) -> None:
        """Starts nothing yet. `wanted`: how many workers each queue wants, answered at once; None: it is not known.

        A queue that it leaves out wants none.
        """
        self._groups = [_Group(group, run_folder, output) for group in groups]
        self._started: list[_Group] = []
        self._output = output
        self._wanted = wanted
        self._stop_requests = 0

    @property
    def processes(self) -> list[SupervisedProcess]:
        """All processes that were started, in the order of their start."""
        return [process for group in self._started for process in group.processes]

    def request_stop(self, *_signal: object) -> None:
        """Asks `run` to stop everything; a second call makes it kill. A signal handler, so it only counts."""
        self._stop_requests += 1

    def run(self, welcome: str, limit: timedelta = START_LIMIT) -> int:
        """Starts everything, prints `welcome` when it is ready and supervises until a stop is requested.

        Returns the exit code: 0 after an orderly stop, 1 when something was not ready within `limit`, 2 when the start
        found something configured badly. What finds that at a later start of its own, because a file was changed
        meanwhile, is left as it is: the others go on as they were started, for their jobs and callers are worth more.
        """
        try:
            late = self.start(limit)
            if any(process.is_given_up for process in late):
                return BAD_CONFIGURATION
            if late:
                for process in late:
                    self._output.complain(_why_late(process, limit))
                return 1
            if not self._stop_requests:
                self._output.say(welcome)
            while not self._stop_requests:
                self.watch_once()
                self.scale_once()
                clock.sleep(_TURN_SECONDS)
            self._output.say("stopping; once more to kill at once")
            return 0
        finally:
            self.stop()

    def start(self, limit: timedelta = START_LIMIT) -> list[SupervisedProcess]:
        """Starts group by group, each when all before it are ready; returns those not ready within `limit`.

        Also returns, with nothing, as soon as a stop is requested.
        """
        for group in self._groups:
            self._started.append(group)
            for process in group.processes:
                process.start()
            self._watch_until_ready(limit)
            if self._stop_requests:
                return []
            if late := self._not_ready():
                return late
        return []

    def watch_once(self) -> None:
        """Checks every process once, and restarts the dead ones when that is due."""
        for group in self._started:
            group.watch()

    def scale_once(self) -> None:
        """Starts or retires workers where more or fewer are wanted, one step a queue. Not known: all stay."""
        if (wanted := self._wanted()) is None:
            return
        for workers in [workers for group in self._started for workers in group.workers]:
            workers.scale(wanted.get(workers.queue, Wanted()))

    def stop(self) -> None:
        """Stops group by group, the last one first; what still runs after its grace is killed, with its group."""
        for group in reversed(self._started):
            processes = group.processes
            for process in processes:
                process.terminate()
            asked_at = clock.monotonic()
            while self._stop_requests < 2 and any(_may_go_on(process, asked_at) for process in processes):
                clock.sleep(_TURN_SECONDS / 2)
            for process in processes:
                if not process.has_ended() and self._stop_requests < 2:
                    self._output.complain(f"{process.program.name} did not stop in time and is killed")
                process.kill()
        self._started.clear()

    def _not_ready(self) -> list[SupervisedProcess]:
        return [process for process in self.processes if not process.is_ready()]

    def _watch_until_ready(self, limit: timedelta) -> None:
        give_up_at = clock.monotonic() + limit.total_seconds()
        while not self._stop_requests and self._not_ready() and clock.monotonic() < give_up_at:
            self.watch_once()
            if any(process.is_given_up for process in self.processes):
                return
            clock.sleep(_TURN_SECONDS)


def names(groups: Iterable[Iterable[Program | WorkerSet]]) -> list[str]:
    """The programs' names, in the order of their start; of workers, those there are at first."""
    return [name for group in groups for each in group for name in _names_of(each)]


def _names_of(member: Program | WorkerSet) -> list[str]:
    match member:
        case Program(name=name):
            return [name]
        case WorkerSet():
            return [member.name(number) for number in range(1, member.range.lowest + 1)]


def _may_go_on(process: SupervisedProcess, asked_at: float) -> bool:
    return not process.has_ended() and clock.monotonic() < asked_at + process.program.grace.total_seconds()


def _why_late(process: SupervisedProcess, limit: timedelta) -> str:
    if process.deaths:
        return f"{process.program.name} is not ready: it died {process.deaths} times in a row; its last lines say why"
    return f"{process.program.name} runs, but did not become ready within {limit.total_seconds():.0f} s"
