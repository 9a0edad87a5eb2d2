"""Checks an operations file without starting anything."""

import sys
from pathlib import Path

from config.operations_file import read_operations_file, references
from tidegate.errors import ConfigurationError
from tidegate.operations import MEGABYTE


def check(path: Path) -> int:
    """Says what is in the file: 0; or what is wrong in which line: 1."""
    try:
        operations, limits = read_operations_file(path, max_result=MEGABYTE)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is its output
        return 1
    needed = sorted({name for operation in operations for name in references(operation)})
    lines = [
        f"{path}: no fault in {len(operations)} operation(s) and {len(limits)} downstream(s)",
        *(f"  {each.name}: {each.method} {each.url}, downstream {each.downstream}" for each in operations),
        *([f"Workers need in their environment: {', '.join(needed)}"] if needed else []),
    ]
    print("\n".join(lines))  # noqa: T201 - this is its output
    return 0
