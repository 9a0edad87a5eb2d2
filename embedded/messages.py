"""What `make run` says when it is ready, and at its end."""

import os
import shlex
import sys
from pathlib import Path

from config.database import open_database
from config.example_input import FirstRequest
from config.settings import Settings
from embedded.stack import address
from tidegate.errors import TidegateError
from tidegate.maintenance.fact_store import FactStore

_BEARER = '"Authorization: Bearer $TIDEGATE_KEY"'


def welcome(settings: Settings, first: FirstRequest | None) -> str:
    """The addresses, a first request that is taken, and where the data lies."""
    base = address(settings)
    parts = [
        f"Tidegate is ready at {base}\n  page {base}/\n  docs {base}/docs",
        *([_key(settings)] if settings.auth == "keys" else []),
        *([_try_it(settings, base, first)] if first else [_declare(settings)]),
        f"Ctrl-C stops everything. What it keeps lies in {settings.data.resolve()}",
    ]
    return "\n" + "\n\n".join(parts) + "\n\n"


def farewell(settings: Settings) -> str:
    """How many jobs wait for the next start."""
    try:
        database = open_database(settings, pool_size=1)
    except TidegateError:
        return "stopped"
    try:
        number = FactStore(database).count_open()
    except Exception:  # noqa: BLE001 - a database that is away must not make an orderly stop look like a failure
        return "stopped"
    finally:
        database.close()
    if not number:
        return "stopped; no job waits"
    return f"stopped; {'1 job waits' if number == 1 else f'{number:,} jobs wait'}, the next start goes on"


def _key(settings: Settings) -> str:
    where = "" if settings.database_url else f"TIDEGATE_DATA={shlex.quote(str(settings.data.resolve()))} "
    make = f"{where}{_command()} keys create me --role operator"
    return f"Keys are on. If you have none, make one:\n  export TIDEGATE_KEY=$({make})"


def _try_it(settings: Settings, base: str, first: FirstRequest) -> str:
    key = f" -H {_BEARER}" if settings.auth == "keys" else ""
    kind = shlex.quote(f"Content-Type: {first.content_type}")
    content = shlex.quote(first.content.rstrip("\n"))
    url = f"{base}/v1/operations/{first.operation}/jobs"
    submit = (
        f"submit {first.operation} --url {base} --content-type {shlex.quote(first.content_type)} -d {content} --wait"
    )
    return f"Try it:\n  curl -i {url}{key} -H {kind} -d {content}\n  {_command()} {submit}"


def _declare(settings: Settings) -> str:
    return f"No operation can be tried as it is: {address(settings)}/docs shows what each of them takes"


def _command() -> str:
    """The command `tidegate` of this Python, as a shell takes it."""
    path = Path(sys.executable).parent / "tidegate"
    return shlex.quote(os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path))
