"""One supervised process: started in a process group of its own, its output passed on, restarted when it dies."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import IO

from embedded.data_folder import write_private
from embedded.output import Output
from embedded.pid_files import PidFile
from tasks.worker.retirement import RETIRE
from tidegate import clock

GOOD_LIFE = timedelta(seconds=60)
LONGEST_DELAY = timedelta(seconds=30)
BAD_CONFIGURATION = 2
"""Exit code of a process whose configuration is bad, as it said. Another start would end the same way."""
_LONGEST_LINE = 64 * 1024


@dataclass(frozen=True)
class Event:
    """A line in a format of the program's own, read."""

    level: int
    message: str


def _always() -> bool:
    return True


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program to supervise: command line, environment, readiness probe (without one it is ready while it runs).

    `read_line`: what a line of its output comes to: itself, an event, or None for one that nobody needs to see.
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    grace: timedelta  # from SIGTERM to SIGKILL
    is_ready: Callable[[], bool] = _always
    read_line: Callable[[str], str | Event | None] = _as_it_is
    files: Mapping[Path, str] = field(default_factory=dict)  # written before each start: they may have been wiped


def restart_delay(deaths: int) -> timedelta:
    """The restart backoff after so many deaths without a good life between them: 0 s, 1 s, 2 s, ... 30 s."""
    if deaths <= 1:
        return timedelta(0)
    return min(timedelta(seconds=2 ** min(deaths - 2, 10)), LONGEST_DELAY)


class SupervisedProcess:
    """Runs a program and all that it starts as one process group, whose id is the process's pid."""

    def __init__(self, program: Program, run_folder: Path, output: Output) -> None:
        self.program = program
        self.deaths = 0  # since the last good life
        self.is_given_up = False  # it is not started again
        self.is_retiring = False  # likewise, and it may take its time
        self._output = output
        self._pid_file = PidFile(run_folder, program.name)
        self._running: subprocess.Popen[bytes] | None = None
        self._reader: Thread | None = None
        self._started_at = 0.0
        self._start_again_at = 0.0

    @property
    def pid(self) -> int | None:
        """The process's pid while it runs, else None."""
        return self._running.pid if self._running else None

    @property
    def exit_code(self) -> int | None:
        """How the process ended, as Popen has it; None while it runs, and when it was seen to."""
        return self._running.poll() if self._running else None

    def is_ready(self) -> bool:
        """Whether the process runs and its program's probe agrees."""
        return self._running is not None and self._running.poll() is None and self.program.is_ready()

    def start(self) -> None:
        """Starts the process; a start that the system refuses counts as a death."""
        self._started_at = clock.monotonic()
        try:
            for path, text in self.program.files.items():
                write_private(path, text)
            self._running = subprocess.Popen(  # noqa: S603 - the arguments are ours and no shell reads them
                self.program.arguments,
                env=self.program.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._pid_file.write(self._running.pid)
        except OSError as error:
            self._bury(f"can't be started: {error}")
            return
        self._reader = Thread(target=self._pass_on, args=(self._running.stdout,), daemon=True)
        self._reader.start()

    def watch(self) -> None:
        """Checks whether the process died, and restarts it when that is due. Call it a few times a second."""
        if self.is_given_up or self.is_retiring:
            return
        if self._running is None:
            if clock.monotonic() >= self._start_again_at:
                self.start()
                if pid := self.pid:
                    self._output.say(f"{self.program.name} was started again, pid {pid}")
        elif (code := self._running.poll()) is not None:
            lived = clock.monotonic() - self._started_at
            if lived >= GOOD_LIFE.total_seconds():
                self.deaths = 0
            if code == BAD_CONFIGURATION:
                self._give_up()
            else:
                self._bury(f"died after {lived:.1f} s with {described(code)}")

    def retire(self) -> None:
        """Asks a worker to end when the calls that it has open are over, however long; it is not started again."""
        self.is_retiring = True
        if self._running is not None and self._running.poll() is None:
            self._running.send_signal(RETIRE)

    def terminate(self) -> None:
        """Sends SIGTERM to the process alone: it knows how to stop its own children in order."""
        if self._running is not None and self._running.poll() is None:
            self._running.terminate()

    def has_ended(self) -> bool:
        """Whether the process itself has ended."""
        return self._running is None or self._running.poll() is not None

    def is_failing(self) -> bool:
        """Whether it does not run, or has died and is not known to have a good life since."""
        return self.has_ended() or (
            self.deaths > 0 and clock.monotonic() - self._started_at < GOOD_LIFE.total_seconds()
        )

    def kill(self) -> None:
        """Kills the whole process group, whatever is left of it."""
        if self._running is not None:
            self._kill_group(self._running)
            self._running = None
        self._pid_file.remove()

    def _give_up(self) -> None:
        self._end_group()
        self._pid_file.remove()
        self.is_given_up = True
        self._output.complain(
            f"{self.program.name} ended with exit code {BAD_CONFIGURATION}: its last lines say what is wrong with the "
            "configuration; it is not started again"
        )

    def _bury(self, fate: str) -> None:
        self._end_group()
        self.deaths += 1
        delay = restart_delay(self.deaths)
        self._start_again_at = clock.monotonic() + delay.total_seconds()
        when = f"in {delay.total_seconds():.0f} s" if delay else "at once"
        repeated = f", {self.deaths} times in a row" if self.deaths > 1 else ""
        self._output.complain(f"{self.program.name} {fate}{repeated}; it is started again {when}")

    def _end_group(self) -> None:
        if self._running is not None:
            # granian's workers and Celery's children outlive a parent that was killed, and hold its port and jobs.
            self._kill_group(self._running)
            self._running = None

    def _kill_group(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError, PermissionError):  # nobody is left; EPERM: only zombies, on macOS
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if self._reader is not None:
            self._reader.join(timeout=1)

    def _pass_on(self, stdout: IO[bytes]) -> None:
        with stdout:
            while line := stdout.readline(_LONGEST_LINE):
                match self.program.read_line(line.decode(errors="replace").rstrip("\r\n")):
                    case Event(level, message):
                        self._output.event(self.program.name, level, message)
                    case str(text):
                        self._output.line(self.program.name, text)


def described(code: int) -> str:
    """A Popen return code in words: `exit code 3`, `signal SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
