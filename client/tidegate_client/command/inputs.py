"""What the commands take: durations, the file that gets a result, the content type of an input."""

import json
import mimetypes
import re
from pathlib import Path
from typing import Any

import click

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
