"""Runs the scenarios and writes a table, a plot and a JSON. `python -m benchmarks.pacing --help`."""

import argparse
import os
import tempfile
import threading
from pathlib import Path

from benchmarks.pacing import blocking, forecast
from benchmarks.pacing.celery_limit import run_baseline
from benchmarks.pacing.figures import Figures, await_end, figures_of
from benchmarks.pacing.report import table, write
from benchmarks.pacing.scenarios import LANE, SCENARIOS, Run, Scenario
from benchmarks.pacing.stack import running
from tests.support import run as test_run

_BASELINE = "celery"
_FURTHER = {"forecast": forecast.run, "blocking": blocking.run}


def main() -> None:
    """Runs what was asked for, everything by default."""
    names = [*(scenario.name for scenario in SCENARIOS), _BASELINE, *_FURTHER]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=names, help="may be repeated; without it, all")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--out", type=Path, default=Path("data/benchmarks/pacing"), help="(default: %(default)s)")
    arguments = parser.parse_args()
    wanted = arguments.scenario or names
    folder = Path(tempfile.mkdtemp(prefix="tidegate-benchmark-"))
    test_run.begin()
    try:
        rows: list[Figures] = []
        for scenario in SCENARIOS:
            if scenario.name in wanted:
                rows.append(_measured(scenario, folder, arguments.database))
                _say(rows[-1])
        if _BASELINE in wanted:
            rows.append(run_baseline(folder / _BASELINE))
            _say(rows[-1])
        if rows:
            print(f"\n{arguments.database}\n\n{table(rows)}")
            write(arguments.out, arguments.database, rows)
        for name, measure in _FURTHER.items():
            if name in wanted:
                measure(folder, arguments.database, arguments.out)
        print(f"\nlogs and databases: {folder}; plot and JSON: {arguments.out}")
    finally:
        test_run.end()


def _measured(scenario: Scenario, folder: Path, database: str) -> Figures:
    with running(folder / scenario.name, database, scenario.operations) as stack:
        if scenario.is_burst:
            run = Run(stack)
            callers = threading.Thread(target=stack.submit_many, args=(LANE, scenario.jobs))
            callers.start()
        else:  # the whole backlog is there before the first slot: what submits cost is measured by the other
            stack.limit(LANE, paused=True)
            stack.submit_many(LANE, scenario.jobs)
            run = Run(stack)
            stack.limit(LANE, paused=False)
        scenario.fault(run)
        if scenario.is_burst:
            callers.join()
        await_end(run, longest_seconds=scenario.longest_seconds)
        return figures_of(scenario, run)


def _say(row: Figures) -> None:
    load = os.getloadavg()[0]
    share = "" if row.utilisation is None else f" {row.utilisation:.1%},"
    print(f"{row.title}: {row.calls} calls in {row.seconds:.1f} s,{share} most {row.most}, load {load:.1f}", flush=True)


if __name__ == "__main__":
    main()
