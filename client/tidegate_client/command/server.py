"""Commands for where the server is installed: keys, check, try, settings. The only module that knows the server."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tidegate_client.command.inputs import HEADERS, headers_of, type_of

_PASSED_ON = {"ignore_unknown_options": True}


@click.command(context_settings=_PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def keys(arguments: tuple[str, ...]) -> None:
    """Makes, lists and revokes API keys (server)."""
    _find_server()
    from webapp.keys import main  # noqa: PLC0415 - it is there only where the server is

    main.main(args=list(arguments), prog_name="tidegate keys")


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--without-secrets", is_flag=True, help="Do not look for the values of ${NAME}, which only workers have.")
def check(file: Path | None, without_secrets: bool) -> None:
    """Checks what is configured, as a start does (server).

    Names file and line of each fault and ends with 2: settings, operations file (FILE, or that of the settings),
    modules with Python operations, the environment that they need."""
    _find_server()
    from config.check import check as checked  # noqa: PLC0415 - it is there only where the server is

    sys.exit(checked(file, with_secrets=not without_secrets))


@click.command("try")
@click.argument("operation")
@click.argument("file", type=click.File("rb"), required=False)
@click.option("-d", "--data", help="The input, in place of FILE.")
@click.option("--content-type", help="Its media type; by default that of FILE's name, or application/json.")
@HEADERS
@click.option(
    "--operations-file", type=click.Path(path_type=Path), help="The operations file; left out: that of the settings."
)
def try_(
    operation: str,
    file: Any,
    *,
    data: str | None,
    content_type: str | None,
    headers: Sequence[str],
    operations_file: Path | None,
) -> None:
    """Makes one call by hand and shows request, answer and what becomes of a job (server).

    No job is recorded, and the call goes out at once: at the downstream it counts as any other."""
    if file is not None and data is not None:
        raise click.UsageError("FILE and --data: give one of them")
    passed = headers_of(headers)
    _find_server()
    from config.try_operation import try_operation  # noqa: PLC0415 - it is there only where the server is

    content = file.read() if file is not None else (data or "").encode()
    made = type_of(content, file, content_type) or "application/json"
    sys.exit(try_operation(operation, content, content_type=made, headers=passed, operations_file=operations_file))


@click.command()
def settings() -> None:
    """Shows every setting with its value (server)."""
    _find_server()
    from config.show_settings import main  # noqa: PLC0415 - it is there only where the server is

    sys.exit(main())


def _find_server() -> None:
    """The server's packages: in this folder (as `python -m` finds them), or beside this client's source.

    They are asked for by the name `webapp`: the library `tidegate` may be installed where there is no server.
    """
    places = (Path.cwd(), Path(__file__).parents[3])
    sys.path[:0] = [str(place) for place in places if (place / "webapp" / "app.py").is_file()]
    if importlib.util.find_spec("webapp") is None:
        raise click.ClickException("this needs Tidegate's server: run it in its folder, as .venv/bin/tidegate")
