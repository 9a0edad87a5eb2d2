"""What the commands take: durations, instants, which jobs, the file that gets a result, the type of an input."""

import json
import mimetypes
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from tidegate_client import clock
from tidegate_client.snapshot import State

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Seconds(click.ParamType[float]):
    """A duration such as 30, 30s, 2m, 1h or 1d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        read = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", str(value).strip(), re.ASCII)
        if not read:
            self.fail(f"{value!r} is not a duration; write 30, 30s, 2m, 1h or 1d", param, ctx)
        return float(read[1]) * _UNITS[read[2]]


SECONDS = Seconds()


class Instant(click.ParamType[datetime]):
    """An instant, or an age such as 24h or 2d; without a zone it is of this machine's clock."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The aware instant."""
        if isinstance(value, datetime):
            return value
        text = str(value).strip()
        try:
            if re.fullmatch(r"[\d.]+[smhd]", text, re.ASCII):
                return clock.now() - timedelta(seconds=SECONDS.convert(text, param, ctx))
            return datetime.fromisoformat(text).astimezone()
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r} is no instant; write 2026-12-24, 2026-12-24T18:00+01:00 or an age, 24h", param, ctx)


INSTANT = Instant()
FILTERS = ("state", "operation", "downstream", "partition", "error_code", "created_after", "created_before", "client")
"""What the options of `WHICH` are called in the API."""


def WHICH(command: Command) -> Command:  # noqa: N802 - it stands among options, which are written so
    """The options that say which jobs; all that are given hold."""
    for option in reversed(
        (
            click.option("--state", type=click.Choice([state.value for state in State]), help="Jobs in this state."),
            click.option("--operation", help="Jobs of this operation."),
            click.option("--downstream", help="Jobs of this downstream."),
            click.option("--partition", help="Jobs of the partition of this name."),
            click.option("--error-code", help="Jobs that ended so: downstream_error, deadline_exceeded, …"),
            click.option(
                "--created-after",
                type=INSTANT,
                help="Then or later: 2026-12-24, 2026-12-24T18:00+01:00, or an age such as 24h or 2d.",
            ),
            click.option("--created-before", type=INSTANT, help="Earlier than then; likewise."),
            click.option("--client", help="Jobs of the client of this id (operators)."),
        )
    ):
        command = option(command)
    return command


def _may_be_written(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    """Told before anything is submitted, not when there is a result to write."""
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}")
    return path


OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_may_be_written,
    help="File that gets the result.",
)


HEADERS = click.option("-H", "--header", "headers", multiple=True, help='A header that is passed on, "X-Customer: a".')


def headers_of(texts: Sequence[str]) -> dict[str, str]:
    """Headers as they are typed; of one name the last holds."""
    headers = {}
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f'{text!r} is no header; write "Name: value"')
        headers[name.strip()] = value.strip()
    return headers


def type_of(content: bytes, file: Any, said: str | None) -> str:
    """The input's content type: as said, by the file's name, by its look; empty for no input at all."""
    if said is not None:
        return said
    if file is None and content:
        return "application/json"  # typed by hand: what is wrong in it is for the gateway to say
    if not content:
        return ""
    by_name, encoding = mimetypes.guess_type(getattr(file, "name", "") or "")
    if by_name and not encoding:
        return by_name
    try:
        json.loads(content)
    except ValueError:
        return "application/octet-stream"
    return "application/json"
