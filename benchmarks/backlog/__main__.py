"""Cost of one release and one poll with 1,000 and with 1,000,000 queued jobs. `python -m benchmarks.backlog`."""

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.backlog.deep_lane import DeepLane
from benchmarks.backlog.pairs import TIMES, Act, compare
from benchmarks.backlog.rows import fresh
from tests.support import run as test_run

_FEW, _MANY = 1_000, 1_000_000
_PAIRS = 15
_ACTS = (Act(name="release", do=DeepLane.release, after=DeepLane.finish), Act(name="poll", do=DeepLane.poll))


def main() -> None:
    """Prints a table a database, and writes backlog.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backlog", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--out", type=Path, default=Path("data/benchmarks/backlog"), help="(default: %(default)s)")
    arguments = parser.parse_args()
    databases = ("sqlite", "postgresql") if arguments.database == "both" else (arguments.database,)
    test_run.begin()
    try:
        figures = {database: _measure(database) for database in databases}
    finally:
        test_run.end()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "backlog.json").write_text(json.dumps(figures, indent=2) + "\n")


def _measure(database: str) -> dict[str, Any]:
    with fresh(database) as few_url, fresh(database) as many_url:
        few, many = DeepLane(few_url, _FEW), DeepLane(many_url, _MANY)
        print(f"\n{database}; {_PAIRS} interleaved pairs of {TIMES}\n")
        print(f"| | {few.queued:,} jobs | {many.queued:,} jobs | ratio | buffers | buffers |")
        print("| --- | --- | --- | --- | --- | --- |")
        figures: dict[str, Any] = {}
        for act in (
            Act(name="release", do=DeepLane.release, after=DeepLane.finish),
            Act(name="poll", do=DeepLane.poll),
        ):
            found = compare(few, many, act, _PAIRS)
            times = [median(found.few), median(found.many)]
            shown = " | ".join(map(str, found.buffers)) if found.buffers else "- | -"
            cells = f"{1e3 * times[0]:.2f} ms | {1e3 * times[1]:.2f} ms | {found.ratio:.2f} | {shown}"
            print(f"| {act.name} | {cells} | {'kept' if found.is_kept else 'missed'}", flush=True)
            figures[act.name] = {"seconds": times, "ratio": found.ratio, "buffers": found.buffers or []}
        sampling = [1e3 * lane.sample() for lane in (few, many)]
        print(f"| sampling a lane, once a second at most | {sampling[0]:.0f} ms | {sampling[1]:.0f} ms |")
        for lane in (few, many):
            lane.database.close()
        return figures


if __name__ == "__main__":
    main()
