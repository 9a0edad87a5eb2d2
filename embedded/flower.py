"""`python -m embedded.flower` (or `make flower`): Flower beside the gateway that runs on this data folder."""

import importlib.util
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

import psutil

from config.broker_url import SQS, scheme_of
from config.environment import environment
from config.settings import Settings, settings
from embedded.pid_files import SUPERVISOR, PidFile
from tidegate.errors import ConfigurationError

PORT = 5555
_AUTH = "FLOWER_BASIC_AUTH"


def main() -> NoReturn:
    """Becomes Flower; ends with 1, and says why, when there is nothing to show."""
    try:
        current = settings()
        broker_url = broker_of(current)
        if importlib.util.find_spec("flower") is None:
            raise ConfigurationError("Flower is not installed: `make flower` does it, or requirements-stack.txt")
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is its output
        sys.exit(1)
    own, arguments = environment_of(environment(), broker_url), sys.argv[1:]
    port = next((word.partition("=")[2] for word in arguments if word.startswith("--port=")), PORT)
    print(f"Flower is at http://127.0.0.1:{port}/; name and password: {own[_AUTH]}", flush=True)  # noqa: T201 - likewise
    os.execve(sys.executable, command_of(arguments), own)  # noqa: S606 - the arguments are ours and the user's


def broker_of(current: Settings) -> str:
    """The URL of the broker of the gateway that runs. Raises ConfigurationError when there is none."""
    if scheme_of(current.broker_url) == SQS:
        raise ConfigurationError("Flower shows nothing over SQS, which has no broadcast (docs/brokers.md)")
    if current.broker_url:
        return current.broker_url
    folder = current.run_folder.resolve()
    supervisor = PidFile(folder, SUPERVISOR).read()
    try:
        if supervisor and psutil.pid_exists(supervisor):
            return (folder / "broker.url").read_text().strip()
    except OSError:
        pass  # as if none ran
    raise ConfigurationError(
        f"no gateway runs on {folder.parent}: start it with `make run` first, or name its TIDEGATE_DATA or "
        "TIDEGATE_BROKER_URL"
    )


def command_of(more: Sequence[str]) -> list[str]:
    """Flower's command line, on loopback; no secret is in it."""
    where = ("--address=127.0.0.1", f"--port={PORT}")
    return [sys.executable, "-m", "celery", "--quiet", "--app=tasks.app", "flower", *where, *more]


def environment_of(own: Mapping[str, str], broker_url: str) -> dict[str, str]:
    """Its environment: the broker, and a password, for who may use Flower may stop workers."""
    password = own.get(_AUTH) or f"flower:{secrets.token_urlsafe(12)}"
    return {**own, "TIDEGATE_BROKER_URL": broker_url, "TIDEGATE_BROKER_URL_FILE": "", _AUTH: password}


if __name__ == "__main__":
    main()
