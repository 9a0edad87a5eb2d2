"""`python -m webapp`: the web server, as the settings say."""

import os
import sys
from typing import NoReturn

from config.settings import settings
from config.signing_keys import signing_keys
from config.web_server import allow_files, command
from tidegate.errors import ConfigurationError


def main() -> NoReturn:
    """Becomes the server; ends with 2 when a setting is bad."""
    try:
        current = settings()
        if current.auth == "keys":
            signing_keys(current)  # made before there are several that would
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log is not set up yet
        sys.exit(2)
    allow_files(current)
    os.execv(sys.executable, command(current, stop_seconds=max(1, current.grace_seconds)))  # noqa: S606 - the arguments are ours


if __name__ == "__main__":
    main()
