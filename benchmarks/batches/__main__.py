"""Whether many jobs in one call keep what is promised of them. `python -m benchmarks.batches --help`.

Real processes (web, scheduler, workers, Valkey, a downstream that keeps a log of arrivals), some of which are killed
-9. Each part prints its figures and whether each bound was kept. The exit status is 1 if one was not.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks.batches import chaos, drain, lone, pace, poison, price
from benchmarks.speed.command import OUT, POSTGRESQL, SQLITE, TITLES
from benchmarks.speed.machine import described
from benchmarks.verdict import Verdict, Verdicts, table
from tests.support import run

PARTS: Mapping[str, Callable[[Verdicts, bool], None]] = {
    "pace": lambda verdicts, is_quick: pace.measure(verdicts, pace.QUICK if is_quick else pace.FULL),
    "lone": lambda verdicts, is_quick: lone.measure(verdicts, lone.QUICK if is_quick else lone.FULL),
    "chaos": lambda verdicts, is_quick: chaos.measure(verdicts, chaos.QUICK if is_quick else chaos.FULL),
    "poison": lambda verdicts, is_quick: poison.measure_poison(verdicts, 5 if is_quick else 50),
    "outage": lambda verdicts, is_quick: poison.measure_outage(verdicts, poison.QUICK if is_quick else poison.FULL),
    "drain": lambda verdicts, is_quick: drain.measure(verdicts, drain.QUICK if is_quick else drain.FULL),
    "price": lambda verdicts, is_quick: price.measure(verdicts, price.QUICK if is_quick else price.FULL),
}


def main() -> int:
    """Prints the table and writes batches.md and batches.json; 1 when a bound was missed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batches", description=__doc__)
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
    (arguments.out / "batches.json").write_text(json.dumps(document, indent=2) + "\n")
    words = [f"- {what}: {value}" for what, value in machine.items()]
    (arguments.out / "batches.md").write_text("\n".join([*words, "", table(verdicts), ""]))
    print(f"\n{table(verdicts)}\n\n{arguments.out / 'batches.md'}")
    missed = [each for each in verdicts if each.is_kept is False]
    print(f"{len(missed)} of {sum(each.is_kept is not None for each in verdicts)} bounds were missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
