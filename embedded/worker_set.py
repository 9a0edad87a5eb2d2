"""The workers of one queue: started and retired within their range, as many as are wanted."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path

from embedded.output import Output
from embedded.processes import Program, SupervisedProcess, described
from tasks.health_file import remove_files_of
from tidegate import clock
from tidegate.dispatch.scale import Wanted
from tidegate.operations.worker_range import WorkerRange

START_APART = timedelta(seconds=1)
"""Between two starts of one queue's workers: each takes a core for its first second, and the others have calls due."""


@dataclass(frozen=True, kw_only=True)
class WorkerSet:
    """The workers of one queue: how many, and the program of each by its name, such as `io-1`."""

    queue: str
    range: WorkerRange
    program: Callable[[str], Program]

    def name(self, number: int) -> str:
        """The name of the worker of this number, from 1."""
        return f"{self.queue}-{number}"


class SupervisedWorkers:
    """Starts the fewest workers of a set; `scale` starts and retires the others."""

    def __init__(self, declared: WorkerSet, run_folder: Path, output: Output) -> None:
        self.queue = declared.queue
        self.processes: list[SupervisedProcess] = []
        """In the order of their start, with those that retire until they have ended."""
        self._declared = declared
        self._run_folder = run_folder
        self._output = output
        self._next_start_at = 0.0
        for _ in range(declared.range.lowest):
            self._add()

    def watch(self) -> None:
        """Removes those that have retired, and restarts the others when they died and that is due."""
        for process in list(self.processes):
            if process.is_retiring and process.has_ended():
                self._remove(process)
            else:
                process.watch()

    def scale(self, wanted: Wanted) -> None:
        """Starts or retires a worker when more or fewer are wanted, as the range allows.

        Call it a few times a second; of starts there is one a second. The newest retires first, before it one that
        dies again and again. A worker that retires is not counted: when more are wanted meanwhile, another one starts
        under a free name.
        """
        serving = [process for process in self.processes if not process.is_retiring]
        number = self._declared.range.nearest(wanted.wanted)
        if len(serving) < number and clock.monotonic() >= self._next_start_at:
            self._next_start_at = clock.monotonic() + START_APART.total_seconds()
            process = self._add()
            process.start()
            self._output.say(f"{process.program.name} is started, as one of {number}: {wanted.because}")
        elif len(serving) > number:
            process = max(reversed(serving), key=SupervisedProcess.is_failing)
            process.retire()
            name = process.program.name
            self._output.say(f"{name} retires when its calls have ended, leaving {number}: {wanted.because}")

    def _add(self) -> SupervisedProcess:
        taken = {process.program.name for process in self.processes}
        name = next(name for number in count(1) if (name := self._declared.name(number)) not in taken)
        process = SupervisedProcess(self._declared.program(name), self._run_folder, self._output)
        self.processes.append(process)
        return process

    def _remove(self, process: SupervisedProcess) -> None:
        name, code = process.program.name, process.exit_code
        process.kill()  # what is left of its group, and the pid file
        remove_files_of(self._run_folder, name)
        self.processes.remove(process)
        if code:
            self._output.complain(f"{name} ended with {described(code)} while it retired")
        else:
            self._output.say(f"{name} has retired")
