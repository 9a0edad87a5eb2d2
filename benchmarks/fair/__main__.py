"""Whether partitions get what they are promised. `python -m benchmarks.fair --help`.

Real processes (web, scheduler, workers, Valkey, a downstream that keeps a log of arrivals), and processes killed -9.
Each part prints its figures and whether each bound was kept. The exit status is 1 if one was not. What a job costs
that uses no partitions tells `python -m benchmarks.price --beside REVISION --part acts`; what many lanes cost one
scheduler `python -m benchmarks.lanes`.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks.fair import held, limits, newcomer, paced, shared, strict
from benchmarks.speed.command import OUT, POSTGRESQL, SQLITE, TITLES
from benchmarks.speed.machine import described
from benchmarks.verdict import Verdict, Verdicts, table
from tests.support import run

PARTS: Mapping[str, Callable[[Verdicts, bool], None]] = {
    "bound": lambda verdicts, is_quick: shared.measure(verdicts, shared.QUICK if is_quick else shared.FULL),
    "newcomer": lambda verdicts, is_quick: newcomer.measure(verdicts, newcomer.QUICK if is_quick else newcomer.FULL),
    "limits": lambda verdicts, is_quick: limits.measure(verdicts, limits.QUICK if is_quick else limits.FULL),
    "held": lambda verdicts, is_quick: held.measure_held(verdicts, held.QUICK if is_quick else held.FULL),
    "first": lambda verdicts, is_quick: held.measure_first(verdicts, held.QUICK if is_quick else held.FULL),
    "strict": lambda verdicts, is_quick: strict.measure(verdicts, strict.QUICK if is_quick else strict.FULL),
    "paced": lambda verdicts, is_quick: paced.measure(verdicts, paced.QUICK if is_quick else paced.FULL),
}


def main() -> None:
    """Prints the table and writes fair.md and fair.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fair", description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated (default: each)")
    parser.add_argument("--database", choices=(POSTGRESQL, SQLITE), help="(default: each)")
    parser.add_argument("--quick", action="store_true", help="small sizes, for trying")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the figures (default: %(default)s)")
    arguments = parser.parse_args()
    verdicts: list[Verdict] = []
    run.begin()
    try:
        for part in arguments.part or PARTS:
            for database in [arguments.database] if arguments.database else TITLES:
                measured = Verdicts(part, database, [])
                PARTS[part](measured, arguments.quick)
                verdicts += measured.found
                print(f"{part}, {database}: done, load {os.getloadavg()[0]:.1f}", flush=True)
    finally:
        run.end()
    arguments.out.mkdir(parents=True, exist_ok=True)
    machine = described()
    document = {"machine": machine, "verdicts": [asdict(each) for each in verdicts]}
    (arguments.out / "fair.json").write_text(json.dumps(document, indent=2) + "\n")
    words = [f"- {what}: {value}" for what, value in machine.items()]
    (arguments.out / "fair.md").write_text("\n".join([*words, "", table(verdicts), ""]))
    missed = [str(each) for each in verdicts if each.is_kept is False]
    kept = sum(each.is_kept is True for each in verdicts)
    print(f"\n{kept} bounds kept, {len(missed)} missed", *missed, f"{arguments.out / 'fair.md'}", sep="\n")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
