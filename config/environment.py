"""Reads the environment and the file .env, both only here. <NAME>_FILE names a file with a variable's value."""

import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from tidegate.errors import ConfigurationError

ENV_FILE = ".env"
# With a byte order mark, as some editors write it, or without.
ENCODING = "utf-8-sig"
# TIDEGATE_DATABASE_URL_FILE names a file with the value, as orchestrators hand out secrets.
IN_A_FILE = "_FILE"


def environment() -> Mapping[str, str]:
    """The environment merged over the file .env. Raises ConfigurationError for a file that can't be read in full."""
    try:
        bindings = _bindings()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{ENV_FILE}: it can't be read: {error}") from None
    if bad := [f"{ENV_FILE}:{_line(each)}: write NAME=value" for each in bindings if each.error]:
        raise ConfigurationError(*bad)
    from_file = {name: value for name, value in dotenv_values(ENV_FILE, encoding=ENCODING).items() if value is not None}
    return {**from_file, **os.environ}  # noqa: TID251 - this file is the one reader


def value_of(name: str, given: Mapping[str, str]) -> str | None:
    """The value of a variable, or the content of the file that <name>_FILE names; None: neither is set.

    Raises ConfigurationError when the file can't be read, or when both are set: one of them would be out of date.
    """
    path = given.get(name + IN_A_FILE)
    if not path:
        value = given.get(name)
        return value.removeprefix("\ufeff") if value else value  # a byte order mark, copied along with a secret
    if given.get(name):
        raise ConfigurationError(f"{name} and {name}{IN_A_FILE} are both set; leave one of them out")
    try:
        return Path(path).read_text(encoding=ENCODING).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"{name}{IN_A_FILE}: {path} can't be read: {reason}") from None


def place_of(name: str) -> str:
    """The variable's name, after the line of .env that it comes from: `.env:3: NAME`."""
    is_from_file = name not in os.environ  # noqa: TID251 - this file is the one reader
    lines = [_line(each) for each in _bindings() if each.key == name] if is_from_file else []
    return f"{ENV_FILE}:{lines[-1]}: {name}" if lines else name


def _bindings() -> list[Binding]:
    if not Path(ENV_FILE).is_file():
        return []
    with Path(ENV_FILE).open(encoding=ENCODING) as stream:
        return list(parse_stream(stream))


def _line(binding: Binding) -> int:
    """The line on which the binding begins; blank lines before it belong to it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
