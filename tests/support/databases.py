"""On which databases a test runs: on both in tests/conformance and where a mark says why, else on SQLite."""

from collections.abc import Iterable
from pathlib import Path

import pytest

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.postgresql)
BOTH = ["sqlite", POSTGRESQL]
MARK = "both_databases"
UNEXPLAINED = pytest.StashKey[list[str]]()
"""What `on_both_without_a_reason` found among all that was collected."""
_CONFORMANCE = Path(__file__).parents[1] / "conformance"


def is_for_both(test: pytest.Item) -> bool:
    """Whether it stands in tests/conformance, or has the mark with a reason."""
    mark = test.get_closest_marker(MARK)
    return test.path.is_relative_to(_CONFORMANCE) or (mark is not None and len(mark.args) == 1)


def names_its_own(test: pytest.Item) -> bool:
    """Whether it says by itself on which database it runs, as one about row locks, which SQLite has not."""
    return any("database_url" in mark.args[:1] for mark in test.iter_markers("parametrize"))


def on_both_without_a_reason(tests: Iterable[pytest.Item]) -> list[str]:
    """Those that are collected for both databases, whatever the parameter is called, and are not for both."""
    seen: dict[str, set[str]] = {}
    for test in tests:
        if isinstance(test, pytest.Function) and hasattr(test, "callspec") and not is_for_both(test):
            values = {value for value in test.callspec.params.values() if isinstance(value, str)}
            seen.setdefault(f"{test.path.name}::{test.originalname}", set()).update(values)
    return [name for name, values in seen.items() if values >= {"sqlite", "postgresql"}]
