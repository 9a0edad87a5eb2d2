"""`python -m webapp`: checks the configuration, and becomes the web server."""

import argparse
import os
import sys
from typing import NoReturn

from config.check import find_faults
from config.database import check_sessions
from config.settings import settings
from config.signing_keys import signing_keys
from config.web_server import allow_files
from tidegate.errors import ConfigurationError
from webapp.serving.worker_watch import SILENT_SECONDS


def main() -> NoReturn:
    """Checks the configuration and execs the web server; ends with 2 when it is bad.

    The server itself would start bad workers again and again.
    """
    given = _options()
    faults, _, _ = find_faults(with_secrets=False)
    if faults:
        print("\n".join(faults), file=sys.stderr)  # noqa: T201 - the log is not set up yet
        sys.exit(2)
    current = settings()
    try:
        if current.auth == "keys":
            signing_keys(current)  # made here, once, before several workers would each make one
        check_sessions(current)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log is not set up yet
        sys.exit(2)
    allow_files(current)
    stop_seconds = max(1, current.grace_seconds) if given.stop_seconds is None else given.stop_seconds
    # A fresh process: workers are forked from it, and the check above has imported modules that they don't need.
    server = (sys.executable, "-m", "webapp.server", str(stop_seconds), str(given.replace_silent_after))
    os.execv(sys.executable, server)  # noqa: S606 - the arguments are ours


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m webapp", description="Starts the web server.")
    parser.add_argument("--stop-seconds", type=int, help="how long it may finish its work; left out: as workers may")
    parser.add_argument(
        "--replace-silent-after",
        type=float,
        default=SILENT_SECONDS,
        help="seconds after which a worker that answers nothing is replaced",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
