"""The command `tidegate`: submit, wait, look, and an operator's levers, from a terminal or a script."""

import sys


def main() -> None:
    """Runs the command line; says what is missing when only the library was installed."""
    try:
        from tidegate_client.command.group import tidegate  # noqa: PLC0415 - the library alone has no click
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        sys.exit(f"The command line needs {error.name}: pip install 'tidegate-client[cli]'")
    tidegate.main(prog_name="tidegate")
