"""The table of a trial."""

from collections.abc import Mapping
from typing import Any

from benchmarks.chaos.trial import Report

_NAMED = 5


def table(report: Report) -> str:
    """Markdown: what was done, what happened, and each promise with the number of times it was broken."""
    rows: list[tuple[str, Any]] = [
        ("seed, database", f"{report.seed}, {report.database}"),
        (
            "seconds in all; until all were final after the last fault",
            f"{report.seconds:.0f}; {report.healed_after:.1f}",
        ),
        ("faults", f"{sum(report.faults.values())}: {_counts(report.faults)}"),
        *((f"submits: {name}", _counts(value)) for name, value in report.submits.items()),
        ("polls and cancels", _counts(report.polls)),
        *((name, _counts(value)) for name, value in report.figures.items()),
        *((f"**{promise}**", _verdict(broken)) for promise, broken in report.violations.items()),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _counts(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in sorted(value.items())) or "none"
    return str(value)


def _verdict(broken: list[str]) -> str:
    if not broken:
        return "kept"
    return f"BROKEN {len(broken)} times: " + "; ".join(broken[:_NAMED])
