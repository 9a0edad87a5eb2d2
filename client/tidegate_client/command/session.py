"""What every command has: the gateway's address and key, the form of its output, and how errors end it."""

import functools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec

import click
from rich.console import Console

from tidegate_client.client import Client
from tidegate_client.command.exits import Exit, code_of_error
from tidegate_client.errors import Refused, TidegateError

Arguments = ParamSpec("Arguments")

DEFAULT_URL = "http://127.0.0.1:8000"
SHORT_PATIENCE, LONG_PATIENCE = 5.0, 120.0
"""Seconds of trying: a command that asks once says soon that nobody is there, one that waits outlives a restart."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """One run of the command. Results go to `out`, everything else to `err`."""

    client: Client
    is_json: bool
    out: Console
    err: Console

    def document(self, document: Mapping[str, Any]) -> None:
        """One JSON document as one line."""
        click.echo(json.dumps(document, ensure_ascii=False))

    def say(self, text: str) -> None:
        """A line beside the result; not with --json."""
        if not self.is_json:
            self.err.print(text, markup=False, highlight=False, soft_wrap=True)

    def complain(self, error: TidegateError) -> None:
        """Why it could not be done."""
        if self.is_json:
            known = error.problem if isinstance(error, Refused) else {"detail": str(error)}
            click.echo(json.dumps({"error": {"kind": type(error).__name__, **known}}), err=True)
        else:
            click.echo(str(error), err=True)


def reaches_gateway(
    command: Callable[Concatenate[Session, Arguments], Exit | None],
) -> Callable[..., None]:
    """Gives the command its Session and the options --url, --key and --json; what it returns is the exit code."""

    @click.option("--url", envvar="TIDEGATE_URL", default=DEFAULT_URL, show_default=True, show_envvar=True)
    @click.option("--key", envvar="TIDEGATE_KEY", show_envvar=True, help="API key; safer in the environment.")
    @click.option("--json", "is_json", is_flag=True, help="For scripts: one JSON document a line.")
    @functools.wraps(command)
    def wrapped(url: str, key: str | None, *, is_json: bool, **options: Any) -> None:
        try:
            client = Client(url, key, patience=SHORT_PATIENCE)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--url") from None
        with client:
            session = Session(client=client, is_json=is_json, out=Console(), err=Console(stderr=True))
            try:
                code = command(session, **options)  # type: ignore[call-arg] # click passes options by name
            except TidegateError as error:
                session.complain(error)
                code = code_of_error(error)
            except KeyboardInterrupt:
                code = Exit.INTERRUPTED
        sys.exit(code or Exit.DONE)

    return wrapped
