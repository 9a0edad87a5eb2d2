"""`python -m embedded` (or `make run`): runs Tidegate with all that it needs, until Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from config.database import check_sessions, sessions_of
from config.example_input import FirstRequest
from config.gc_freeze import freeze_loaded_objects
from config.settings import Settings, settings
from config.web_server import allow_files
from embedded.data_folder import PRIVATE, make_private
from embedded.messages import farewell, welcome
from embedded.output import Output
from embedded.pid_files import only_supervisor, stop_leftovers
from embedded.processes import BAD_CONFIGURATION, described
from embedded.stack import check_ports, programs
from embedded.supervisor import Supervisor, names
from embedded.wanted_workers import asking
from migrations.upgrade import upgrade
from tidegate.errors import ConfigurationError, DatabaseUnreachableError


def main() -> int:
    """Runs until it is stopped; returns 0, 1 when it can't run here now, 2 when the configuration is bad."""
    try:
        checked = _check()
        if checked is None:
            return BAD_CONFIGURATION
        current = settings()
        os.umask(PRIVATE)  # for all files that this process and every child writes
        notes = make_private(current.data.resolve())
        with only_supervisor(current.run_folder.resolve()):
            return _run(current, notes, json.loads(checked))
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - nothing else runs that could say it
        return 1
    except KeyboardInterrupt:  # before the signal handlers stand, so nothing was started yet
        return 130


def _check() -> str | None:
    """Runs `tidegate check` first: returns the first request that it suggests; None when it has said what is bad.

    In a process of its own, for it imports the operations' modules: they may be large, and may do anything.
    """
    checking = subprocess.run(
        [sys.executable, "-m", "config.check", "--for-start"], stdout=subprocess.PIPE, check=False
    )
    if checking.returncode == 0 and checking.stdout:
        # The last line: a module of operations may print as it is imported.
        return checking.stdout.decode().splitlines()[-1]
    if checking.returncode != BAD_CONFIGURATION:
        fate = described(checking.returncode)
        how = "`tidegate check` shows how far it came"
        print(f"the check of what is configured ended with {fate}; {how}", file=sys.stderr)  # noqa: T201 - nothing else is there yet to say it
    return None


def _run(current: Settings, notes: Sequence[str], first: Mapping[str, str] | None) -> int:
    groups = programs(current)
    output = Output(names(groups), is_json=current.log_format == "json")
    for note in notes:
        output.say(note)
    run_folder = current.run_folder.resolve()
    for name in stop_leftovers(run_folder, current.data.resolve()):
        output.say(f"stopped {name}, left behind by a supervisor that was killed")
    check_ports(current)
    if os.geteuid() == 0:
        output.say("runs as root, and so does what operations do; an account of its own is safer")
    allow_files(current)
    check_sessions(current)
    _migrate(current)
    freeze_loaded_objects()

    with asking(current, groups) as wanted:
        supervisor = Supervisor(groups, run_folder, output, wanted)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, supervisor.request_stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGHUP, supervisor.request_stop)
        code = supervisor.run(welcome(current, FirstRequest(**first) if first else None))
    if code == 0:
        output.say(farewell(current))
    return code


def _migrate(settings: Settings) -> None:
    try:
        upgrade(settings.database, sessions=sessions_of(settings))
    except (SQLAlchemyError, CommandError, DatabaseUnreachableError) as error:
        raise ConfigurationError(f"the database can't be brought up to date: {str(error).splitlines()[0]}") from None


if __name__ == "__main__":
    sys.exit(main())
