"""`python -m embedded` (or `make run`): Tidegate with all that it needs, until Ctrl-C."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from config.garbage import spare_what_is_loaded
from config.settings import Settings, settings
from config.web_server import allow_files
from embedded.data_folder import PRIVATE, make_private
from embedded.output import Output
from embedded.pid_files import only_supervisor, stop_leftovers
from embedded.stack import address, check_ports, programs
from embedded.supervisor import Supervisor, names
from migrations.upgrade import upgrade
from tidegate.errors import ConfigurationError


def main() -> int:
    """Runs until it is stopped: 0. 1 when it can't run here now, 2 when a setting is bad."""
    try:
        current = settings()
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - nothing else is there yet to say it
        return 2
    os.umask(PRIVATE)  # of all that this and every child writes
    try:
        notes = make_private(current.data.resolve())
        with only_supervisor(current.run_folder.resolve()):
            return _run(current, notes)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - nothing else runs that could say it
        return 1
    except KeyboardInterrupt:  # before the signal handlers stand, so nothing was started yet
        return 130


def _run(current: Settings, notes: Sequence[str]) -> int:
    groups = programs(current)
    output = Output(names(groups))
    for note in notes:
        output.say(note)
    run_folder = current.run_folder.resolve()
    for name in stop_leftovers(run_folder, current.data.resolve()):
        output.say(f"stopped {name}, left behind by a supervisor that was killed")
    check_ports(current)
    allow_files(current)
    _migrate(current.database)
    spare_what_is_loaded()

    supervisor = Supervisor(groups, run_folder, output)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, supervisor.request_stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, supervisor.request_stop)
    return supervisor.run(_welcome(current))


def _migrate(url: str) -> None:
    try:
        upgrade(url)
    except (SQLAlchemyError, CommandError) as error:
        raise ConfigurationError(f"the database can't be brought up to date: {str(error).splitlines()[0]}") from None


def _welcome(current: Settings) -> str:
    base = address(current)
    order = """-d '{"sku": "A-100", "quantity": 3}'"""
    return f"""
Tidegate is ready at {base}

Try it:
  curl -i -X POST {base}/v1/operations/quote/jobs -H 'Content-Type: application/json' {order}
  {Path(sys.executable).parent / "tidegate"} submit quote --url {base} --wait {order}

Ctrl-C stops everything. What it keeps lies in {current.data.resolve()}
"""


if __name__ == "__main__":
    sys.exit(main())
