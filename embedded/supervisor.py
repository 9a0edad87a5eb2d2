"""The supervisor: starts groups of processes in order, restarts those that die, and stops them in reverse order.

Our own code because none of circus, supervisor and honcho has restart backoff, readiness, pid files and a stop in
10 s together.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

from embedded.output import Output
from embedded.processes import BAD_CONFIGURATION, Program, SupervisedProcess
from tidegate import clock

START_LIMIT = timedelta(seconds=60)
_TURN_SECONDS = 0.1


class Supervisor:
    """Runs groups of programs: starts them front to back, stops them back to front."""

    def __init__(self, groups: Sequence[Sequence[Program]], run_folder: Path, output: Output) -> None:
        self._groups = [[SupervisedProcess(program, run_folder, output) for program in group] for group in groups]
        self._started: list[list[SupervisedProcess]] = []
        self._output = output
        self._stop_requests = 0

    @property
    def processes(self) -> list[SupervisedProcess]:
        """All processes that were started, in the order of their start."""
        return [process for group in self._started for process in group]

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
            for process in group:
                process.start()
            self._watch_until_ready(limit)
            if self._stop_requests:
                return []
            if late := self._not_ready():
                return late
        return []

    def watch_once(self) -> None:
        """Checks every process once, and restarts the dead ones when that is due."""
        for process in self.processes:
            process.watch()

    def stop(self) -> None:
        """Stops group by group, the last one first; what still runs after its grace is killed, with its group."""
        for group in reversed(self._started):
            for process in group:
                process.terminate()
            asked_at = clock.monotonic()
            while self._stop_requests < 2 and any(_may_go_on(process, asked_at) for process in group):
                clock.sleep(_TURN_SECONDS / 2)
            for process in group:
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


def names(groups: Iterable[Iterable[Program]]) -> list[str]:
    """The programs' names, in the order of their start."""
    return [program.name for group in groups for program in group]


def _may_go_on(process: SupervisedProcess, asked_at: float) -> bool:
    return not process.has_ended() and clock.monotonic() < asked_at + process.program.grace.total_seconds()


def _why_late(process: SupervisedProcess, limit: timedelta) -> str:
    if process.deaths:
        return f"{process.program.name} is not ready: it died {process.deaths} times in a row; its last lines say why"
    return f"{process.program.name} runs, but did not become ready within {limit.total_seconds():.0f} s"
