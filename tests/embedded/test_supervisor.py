"""The supervisor of the embedded default, with real child processes."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from threading import Thread

import psutil
import pytest

from embedded.output import Output
from embedded.pid_files import PidFile, only_supervisor, stop_leftovers
from embedded.processes import LONGEST_DELAY, Program, restart_delay
from embedded.supervisor import Supervisor, names
from tests.support.processes import REPOSITORY, free_port, is_listening
from tests.support.waiting import wait_until
from tidegate.errors import ConfigurationError

SLEEP = "import time; time.sleep(600)"
IGNORE_SIGTERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); {SLEEP}"


class Stage:
    """A supervisor on a folder of its own, with what it wrote."""

    def __init__(self, folder: Path, groups: list[list[Program]]) -> None:
        self.folder = folder
        self.written = io.StringIO()
        self.supervisor = Supervisor(groups, folder, Output(names(groups), self.written))

    def pid(self, name: str) -> int | None:
        """The pid in the file of this name."""
        return PidFile(self.folder, name).read()

    def kill(self, name: str) -> int:
        """kill -9 of the process itself, not of its group; returns its pid."""
        pid = self.pid(name)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid

    def watch_until(self, condition: Callable[[], object], description: str) -> None:
        """Lets the supervisor take its turns until the condition holds."""

        def take_a_turn() -> object:
            self.supervisor.watch_once()
            return condition()

        wait_until(take_a_turn, description=description)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Makes a stage of groups of programs; all of them are stopped at the end."""
    with ExitStack() as stack:

        def make(*groups: list[Program]) -> Stage:
            made = Stage(tmp_path, list(groups))
            stack.callback(made.supervisor.stop)
            return made

        yield make


def program(
    name: str, code: str = SLEEP, *, grace_seconds: float = 5, is_ready: Callable[[], bool] = lambda: True
) -> Program:
    """A Python program of a few words."""
    return Program(
        name=name,
        arguments=(sys.executable, "-c", code),
        environment={**os.environ, "PYTHONUNBUFFERED": "1"},
        grace=timedelta(seconds=grace_seconds),
        is_ready=is_ready,
    )


def is_alive(pid: int | None) -> bool:
    """Whether this process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_pid_file_stands_while_its_process_runs(stage: Callable[..., Stage]) -> None:
    on = stage([program("web")], [program("io-1")])

    assert on.supervisor.start() == []
    pids = [on.pid("web"), on.pid("io-1")]
    assert all(is_alive(pid) for pid in pids)
    assert (on.folder / "web.pid").read_text() == f"{pids[0]}\n"

    on.supervisor.stop()
    assert not any(is_alive(pid) for pid in pids)
    assert list(on.folder.iterdir()) == []


def test_output_is_passed_on_line_by_line_behind_the_name(stage: Callable[..., Stage]) -> None:
    on = stage([program("web", f"import sys; print('one'); print('two', file=sys.stderr); {SLEEP}")], [program("io-1")])

    on.supervisor.start()
    on.watch_until(lambda: "two" in on.written.getvalue(), "both lines are there")
    assert on.written.getvalue() == "web      | one\nweb      | two\n"


def test_what_dies_is_started_again_at_once_and_the_second_time_a_second_later(stage: Callable[..., Stage]) -> None:
    on = stage([program("web")])
    on.supervisor.start()

    first = on.kill("web")
    on.watch_until(lambda: on.pid("web") != first, "web runs again")
    second = on.kill("web")
    killed_at = time.monotonic()
    on.watch_until(lambda: on.pid("web") != second, "web runs once more")

    assert 0.9 <= time.monotonic() - killed_at < 5
    assert is_alive(on.pid("web"))
    assert "web died after" in on.written.getvalue()
    assert "with signal SIGKILL; it is started again at once" in on.written.getvalue()
    assert "with signal SIGKILL, 2 times in a row; it is started again in 1 s" in on.written.getvalue()
    assert f"web was started again, pid {second}" in on.written.getvalue()


def test_the_wait_before_a_restart_doubles_up_to_a_limit() -> None:
    assert [restart_delay(deaths).total_seconds() for deaths in range(1, 7)] == [0, 1, 2, 4, 8, 16]
    assert restart_delay(7) == restart_delay(100_000) == LONGEST_DELAY


def test_an_exit_code_is_told(stage: Callable[..., Stage]) -> None:
    on = stage([program("web", "raise SystemExit(3)")])

    on.supervisor.start(timedelta(seconds=0.5))
    on.watch_until(lambda: "with exit code 3" in on.written.getvalue(), "its death is told")


def test_a_program_that_is_not_there_counts_as_dying(stage: Callable[..., Stage]) -> None:
    on = stage(
        [Program(name="web", arguments=("/nowhere/at/all",), environment={}, grace=timedelta(0))], [program("io-1")]
    )

    late = on.supervisor.start(timedelta(seconds=0.5))
    assert [process.program.name for process in late] == ["web"]
    assert "web can't be started" in on.written.getvalue()
    assert on.pid("io-1") is None, "a group is not started before the ones ahead of it are ready"


def test_children_of_a_killed_process_die_with_it_and_free_their_port(stage: Callable[..., Stage]) -> None:
    port = free_port()
    serve = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); print('listening'); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {serve!r}])"
    on = stage([program("web", parent)])
    on.supervisor.start()
    on.watch_until(lambda: is_listening(port), "the child listens")
    [child] = psutil.Process(on.pid("web")).children()

    on.kill("web")
    on.watch_until(lambda: not is_alive(child.pid), "the child is gone")
    on.watch_until(lambda: on.written.getvalue().count("listening") == 2, "the next child has the port")


def test_groups_stop_in_the_reverse_order_of_their_start(stage: Callable[..., Stage], tmp_path: Path) -> None:
    def slow(name: str) -> Program:
        stop = "time.sleep(0.2); print('ends at', time.monotonic()); sys.exit()"
        code = f"import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: exec({stop!r}))"
        return program(name, f"{code}; print('starts at', time.monotonic()); time.sleep(600)")

    on = stage([slow("broker")], [slow("web")], [slow("io-1"), slow("cpu-1")])
    on.supervisor.start()
    on.watch_until(lambda: on.written.getvalue().count("starts at") == 4, "all four run")
    on.supervisor.stop()

    ends = [line.split()[0] for line in on.written.getvalue().splitlines() if "ends at" in line]
    assert ends in (["io-1", "cpu-1", "web", "broker"], ["cpu-1", "io-1", "web", "broker"])


def test_a_stubborn_process_is_killed_after_its_grace(stage: Callable[..., Stage]) -> None:
    on = stage([program("io-1", IGNORE_SIGTERM, grace_seconds=0.5)])
    on.supervisor.start()
    on.watch_until(lambda: "deaf" in on.written.getvalue(), "it ignores SIGTERM")
    pid = on.pid("io-1")

    asked_at = time.monotonic()
    on.supervisor.stop()
    assert 0.5 <= time.monotonic() - asked_at < 3
    assert not is_alive(pid)
    assert "io-1 did not stop in time and is killed" in on.written.getvalue()


def test_a_second_request_to_stop_kills_at_once(stage: Callable[..., Stage]) -> None:
    on = stage([program("io-1", IGNORE_SIGTERM, grace_seconds=60)])
    codes: list[int] = []
    running = Thread(target=lambda: codes.append(on.supervisor.run("welcome")), daemon=True)
    running.start()
    wait_until(lambda: "deaf" in on.written.getvalue(), description="it ignores SIGTERM")
    wait_until(lambda: "welcome" in on.written.getvalue(), description="it is ready")

    on.supervisor.request_stop()
    wait_until(lambda: "stopping" in on.written.getvalue(), description="it stops")
    on.supervisor.request_stop()
    running.join(timeout=5)
    assert codes == [0]
    assert list(on.folder.iterdir()) == []


def test_what_does_not_become_ready_is_named_and_everything_stops(stage: Callable[..., Stage]) -> None:
    on = stage([program("broker")], [program("web", is_ready=lambda: False)])

    assert on.supervisor.run("welcome", limit=timedelta(seconds=0.5)) == 1
    assert "web runs, but did not become ready" in on.written.getvalue()
    assert "welcome" not in on.written.getvalue()
    assert list(on.folder.iterdir()) == []


def test_a_second_supervisor_on_the_same_folder_is_refused_and_told_the_pid(tmp_path: Path) -> None:
    with only_supervisor(tmp_path / "run"):
        assert PidFile(tmp_path / "run", "supervisor").read() == os.getpid()
        with pytest.raises(ConfigurationError, match=f"pid {os.getpid()};"), only_supervisor(tmp_path / "run"):
            pass
        assert PidFile(tmp_path / "run", "supervisor").read() == os.getpid()

    assert PidFile(tmp_path / "run", "supervisor").read() is None
    with only_supervisor(tmp_path / "run"):
        pass


@pytest.mark.parametrize(
    ("command_line", "data", "is_stopped"),
    [
        pytest.param("tasks.scheduler", "ours", True, id="ours"),
        pytest.param("tasks.scheduler", "another", False, id="of another data folder"),
        pytest.param("an editor", "ours", False, id="somebody else's, with a pid that was ours"),
    ],
)
def test_only_our_own_leftovers_are_stopped(command_line: str, data: str, is_stopped: bool, tmp_path: Path) -> None:
    leftover = subprocess.Popen(
        [sys.executable, "-c", f"{SLEEP}  # {command_line}"],
        env={**os.environ, "TIDEGATE_DATA": str(tmp_path / data)},
        start_new_session=True,
    )
    try:
        PidFile(tmp_path, "scheduler").write(leftover.pid)
        PidFile(tmp_path, "web").write(2**22 + 1)  # beyond every pid
        wait_until(lambda: command_line in str(psutil.Process(leftover.pid).cmdline()), description="it runs")

        assert stop_leftovers(tmp_path, tmp_path / "ours") == (["scheduler"] if is_stopped else [])
        assert is_alive(leftover.pid) != is_stopped
        assert list(tmp_path.iterdir()) == [], "the stale files are gone either way"
    finally:
        leftover.kill()
        leftover.wait()


def test_children_whose_parent_was_killed_with_the_supervisor_are_leftovers_too(tmp_path: Path) -> None:
    child = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP + ' # tasks.app'!r}]).pid)"
    with (tmp_path / "pids").open("w") as pids:
        subprocess.run(
            [sys.executable, "-c", f"import os; os.setsid(); print(os.getpid()); {child}"],
            env={**os.environ, "TIDEGATE_DATA": str(tmp_path), "PYTHONUNBUFFERED": "1"},
            stdout=pids,
            check=True,
        )
    group, orphan = map(int, (tmp_path / "pids").read_text().split())
    try:
        PidFile(tmp_path, "cpu-1").write(group)
        wait_until(lambda: "tasks.app" in str(psutil.Process(orphan).cmdline()), description="the orphan runs")

        assert stop_leftovers(tmp_path, tmp_path) == ["cpu-1"]
        assert not is_alive(orphan)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


@pytest.mark.parametrize(
    ("setting", "code", "words"),
    [("TIDEGATE_PORT=none", 2, "TIDEGATE_PORT: "), ("TIDEGATE_PORT", 1, "set TIDEGATE_PORT to another one")],
    ids=["bad", "taken"],
)
def test_a_port_that_will_not_do_is_named_on_one_line(setting: str, code: int, words: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        name, _, value = setting.partition("=")
        if not value:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            value = str(listener.getsockname()[1])
        start = subprocess.run(
            [sys.executable, "-m", "embedded"],
            cwd=REPOSITORY,
            env={**os.environ, "TIDEGATE_DATA": str(tmp_path), "TIDEGATE_SAMPLE_PORT": str(free_port()), name: value},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert start.returncode == code, start.stderr
    assert words in start.stderr
    assert start.stderr.count("\n") == 1
    assert start.stdout == ""


BAD = "import sys; print('operations.toml:3: no such key'); sys.exit(2)"


def test_what_ends_with_2_is_not_started_again_and_stops_the_start(stage: Callable[..., Stage]) -> None:
    on = stage([program("broker")], [program("web", BAD, is_ready=lambda: False), program("sample")], [program("io-1")])

    began = time.monotonic()
    assert on.supervisor.run("welcome", limit=timedelta(seconds=60)) == 2

    assert time.monotonic() - began < 30, "it does not wait for what will not come"
    written = on.written.getvalue()
    assert written.count("web      | operations.toml:3: no such key\n") == 1
    assert written.count("web ended with exit code 2") == 1
    assert "it is not started again" in written
    assert "welcome" not in written
    assert "io-1" not in written
    assert list(on.folder.iterdir()) == [], "nothing is left of the others"


def test_what_ends_with_2_when_all_run_is_said_once_and_the_others_go_on(
    stage: Callable[..., Stage], tmp_path: Path
) -> None:
    bad = tmp_path / "bad"
    code = f"import os, sys, time; os.path.exists({str(bad)!r}) and sys.exit(2); {SLEEP}"
    on = stage([program("web")], [program("io-1", code), program("cpu-1")])
    assert on.supervisor.start() == []
    others = [on.pid("web"), on.pid("cpu-1")]

    bad.touch()
    on.kill("io-1")
    on.watch_until(lambda: "io-1 ended with exit code 2" in on.written.getvalue(), "its end is told")
    for _ in range(5):
        on.supervisor.watch_once()

    assert on.written.getvalue().count("io-1 ended with exit code 2") == 1
    assert on.pid("io-1") is None
    assert [on.pid("web"), on.pid("cpu-1")] == others
    assert all(is_alive(pid) for pid in others)
