"""Commands for where the server is installed: keys, check, settings. The only module that knows the server."""

import importlib.util
import sys
from pathlib import Path

import click

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
