"""Checks the whole configuration before anything starts: `tidegate check` and every start.

One function finds every fault: of the settings, the operations file, the modules with Python operations, the
environment that they need, and the keys in the data folder. What it passes, no process will stumble over.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from config.environment import environment
from config.example_input import first_request
from config.registry import Declared, read_declared
from config.sealing_keys import check_sealing_keys
from config.settings import Settings, read_with_faults
from config.signing_keys import check_signing_keys
from config.webhook_keyring import check_keyring
from tidegate.errors import ConfigurationError
from tidegate.operations.declaration import place_of
from tidegate.operations.http_operation import HttpOperation
from tidegate.operations.python_operation import PythonOperation
from tidegate.operations.queues import Queue


def find_faults(
    *, with_secrets: bool, operations_file: Path | None = None
) -> tuple[list[str], Settings | None, Declared | None]:
    """Finds every fault of the configuration, each a line (place, what is wrong, what would do); and what was read.

    `with_secrets`: as the processes see it that call downstreams. The others do not have what `${NAME}` refers to.
    """
    current, faults = read_with_faults()
    if current is None:
        return faults, None, None
    if operations_file is not None:
        current = current.model_copy(update={"operations_file": operations_file})
    secrets: Mapping[str, str] | None = environment() if with_secrets else None
    declared = read_declared(current, secrets)
    faults += declared.faults
    for check_key in (check_keyring, check_signing_keys, check_sealing_keys):
        try:
            check_key(current)
        except ConfigurationError as error:
            faults += error.faults
    return faults, current, declared


def check(operations_file: Path | None = None, *, with_secrets: bool = True, is_for_start: bool = False) -> int:
    """Prints the operations found and returns 0; or prints every fault and returns 2.

    `is_for_start`: prints a first request that would be taken, as a line of JSON, in place of the operations.
    """
    faults, current, declared = find_faults(with_secrets=with_secrets, operations_file=operations_file)
    if faults or current is None or declared is None:
        print("\n".join(faults), file=sys.stderr)  # noqa: T201 - this is its output
        return 2
    file, functions = declared.file, declared.functions
    if is_for_start:
        first = first_request([*file.operations, *functions])
        print(json.dumps(first and asdict(first)))  # noqa: T201 - this is its output
        return 0
    number = len(file.operations) + len(functions)
    lines = [
        f"{file.name}: no fault in {number} operation(s) and {len(file.limits)} downstream(s)",
        *(_described(each, current) for each in file.operations),
        *(f"  {each.name}: {_place(each)}, queue {each.queue}, downstream {each.downstream}" for each in functions),
        *([f"Workers need in their environment: {', '.join(file.needs)}"] if file.needs else []),
    ]
    print("\n".join(lines))  # noqa: T201 - this is its output
    return 0


def _described(operation: HttpOperation, current: Settings) -> str:
    """An operation in a line, with its queue, if that is one of your own, and where its access token is kept."""
    kept = "by the whole cluster" if current.sealing_key.get_secret_value() else "in each worker process"
    token = f"; its token is kept {kept}" if operation.oauth else ""
    queue = "" if operation.queue == Queue.IO.value else f", queue {operation.queue}"
    polled = ", polled" if operation.poll else ""
    batch = f", up to {operation.batch.max} jobs a call ({operation.batch.format})" if operation.batch else ""
    call = f"{operation.method} {operation.url}{polled}{batch}{queue}"
    return f"  {operation.name}: {call}, downstream {operation.downstream}{token}"


def _place(operation: PythonOperation) -> str:
    batch = f", up to {operation.batch.max} jobs a call" if operation.batch else ""
    return f"{place_of(operation.function)}{batch}"


def main() -> int:
    """The command line: parses the arguments and checks."""
    parser = argparse.ArgumentParser(prog="tidegate check", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, nargs="?", help="operations file; left out: that of the settings")
    parser.add_argument(
        "--without-secrets", action="store_true", help="do not look for the values of ${NAME}, which workers have"
    )
    parser.add_argument(
        "--for-start", action="store_true", help="print a first request, as JSON, in place of the operations"
    )
    given = parser.parse_args()
    return check(given.file, with_secrets=not given.without_secrets, is_for_start=given.for_start)


if __name__ == "__main__":
    sys.exit(main())
