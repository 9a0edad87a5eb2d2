"""Runs one trial and prints what was kept and what was not. `python -m benchmarks.chaos --help`."""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from benchmarks.chaos.faults import Kind
from benchmarks.chaos.report import table
from benchmarks.chaos.trial import run
from tests.support import run as test_run


def main() -> int:
    """0 when every promise was kept, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the faults and the load (default: a new one, printed)")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--gap", type=float, default=5.0, help="seconds between two faults on average (%(default)s)")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--only", nargs="+", type=_kind, default=(), metavar="KIND", help=", ".join(Kind.__members__))
    parser.add_argument("--out", type=Path, default=Path("data/benchmarks/chaos"), help="(default: %(default)s)")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    folder = Path(tempfile.mkdtemp(prefix="tidegate-chaos-"))
    print(f"seed {seed}, {arguments.database}; logs: {folder}", flush=True)
    test_run.begin()
    try:
        report = run(
            folder / "stack",
            seed=seed,
            jobs=arguments.jobs,
            faults=arguments.faults,
            gap_seconds=arguments.gap,
            database=arguments.database,
            only=arguments.only,
            say=lambda line: print(line, flush=True),
        )
    finally:
        test_run.end()
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / f"{arguments.database}-{seed}.json"
    kept.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    print(f"\n{table(report)}\n\n{kept}")
    return 0 if report.is_clean else 1


def _kind(name: str) -> Kind:
    return Kind[name.upper()] if name.upper() in Kind.__members__ else Kind(name)


if __name__ == "__main__":
    sys.exit(main())
