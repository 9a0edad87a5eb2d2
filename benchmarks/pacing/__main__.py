"""Runs the scenarios and writes a table, a plot and a JSON. `python -m benchmarks.pacing --help`."""

import argparse
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pacing import blocking, forecast
from benchmarks.pacing.celery_limit import run_baseline
from benchmarks.pacing.figures import Figures, await_end, figures_of, middle_of
from benchmarks.pacing.report import table, write
from benchmarks.pacing.scenarios import PARTNERS, SCENARIOS, Run, Scenario
from benchmarks.pacing.stack import running
from tests.support import run as test_run

_BASELINE = "celery"
_PARTNERS = "partners"
_FURTHER = {"forecast": forecast.run, "blocking": blocking.run}


def main() -> None:
    """Runs what was asked for, everything by default."""
    names = [*(scenario.name for scenario in SCENARIOS), _BASELINE, _PARTNERS, *_FURTHER]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=names, help="may be repeated; without it, all")
    parser.add_argument("--rounds", type=int, default=1, help="of what takes less than a minute (default: %(default)s)")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--out", type=Path, default=Path("data/benchmarks/pacing"), help="(default: %(default)s)")
    arguments = parser.parse_args()
    wanted = arguments.scenario or names
    folder = Path(tempfile.mkdtemp(prefix="tidegate-benchmark-"))
    test_run.begin()
    try:
        rows = _table_of(wanted, folder, arguments.database, arguments.rounds)
        if rows:
            print(f"\n{arguments.database}, medians of {arguments.rounds}\n\n{table(rows)}")
            write(arguments.out, arguments.database, rows)
        for name, measure in _FURTHER.items():
            if name in wanted:
                measure(folder, arguments.database, arguments.out)
        print(f"\nlogs and databases: {folder}; plot and JSON: {arguments.out}")
    finally:
        test_run.end()


def _table_of(wanted: Sequence[str], folder: Path, database: str, rounds: int) -> list[Figures]:
    """A line for each scenario that is wanted; round after round, so that all have the same hours."""
    measured: dict[str, list[Figures]] = {}
    for number in range(1, rounds + 1):
        for scenario in SCENARIOS:
            if scenario.name in wanted:
                measured.setdefault(scenario.name, []).extend(_measured([scenario], folder / f"{number}", database))
        if _BASELINE in wanted:
            measured.setdefault(_BASELINE, []).append(run_baseline(folder / f"{number}" / _BASELINE))
            _say(measured[_BASELINE][-1])
    rows = [middle_of(each) for each in measured.values()]
    return rows + (_measured(PARTNERS, folder, database) if _PARTNERS in wanted else [])


def _measured(scenarios: Sequence[Scenario], folder: Path, database: str) -> list[Figures]:
    """Runs scenarios side by side in one stack, under the fault of the first."""
    first = scenarios[0]
    operations = "\n".join(each.operations for each in scenarios)
    strictness = [option for each in scenarios for option in each.strictness]
    with running(folder / first.name, database, operations, strictness) as stack:
        if first.is_burst:
            run = Run(stack)
            callers = threading.Thread(target=stack.submit_many, args=(first.lane, first.jobs))
            callers.start()
        else:  # the whole backlog is there before the first slot: what submits cost is measured by the other
            for each in scenarios:
                stack.limit(each.lane, paused=True)
                stack.submit_many(each.lane, each.jobs)
            run = Run(stack)
            for each in scenarios:
                stack.limit(each.lane, paused=False)
        first.fault(run)
        if first.is_burst:
            callers.join()
        await_end(run, longest_seconds=first.longest_seconds)
        rows = [figures_of(each, run) for each in scenarios]
    for row in rows:
        _say(row)
    return rows


def _say(row: Figures) -> None:
    load = os.getloadavg()[0]
    share = "" if row.utilisation is None else f" {row.utilisation:.1%},"
    refused = f", {row.refused} refused" if row.refused else ""
    print(
        f"{row.title}: {row.calls} calls in {row.seconds:.1f} s,{share} most {row.most}{refused}, load {load:.1f}",
        *row.broken,
        sep="\n  ",
        flush=True,
    )


if __name__ == "__main__":
    main()
