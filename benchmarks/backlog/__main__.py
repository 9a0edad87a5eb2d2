"""Cost of one release and one poll with 1,000 and with 1,000,000 queued jobs. `python -m benchmarks.backlog`."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.backlog.deep_lane import DeepLane
from tests.support import postgresql, sqlite
from tests.support import run as test_run

_FEW, _MANY = 1_000, 1_000_000
_PAIRS = 15
_TIMES = 20
_MOST_BUFFERS_APART = 10
_MOST_RATIO = 1.25


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
    with _fresh(database) as few_url, _fresh(database) as many_url:
        few, many = DeepLane(few_url, _FEW), DeepLane(many_url, _MANY)
        print(f"\n{database}; {_PAIRS} interleaved pairs of {_TIMES}\n")
        print(f"| | {few.rows:,} jobs | {many.rows:,} jobs | ratio | buffers | buffers |")
        print("| --- | --- | --- | --- | --- | --- |")
        figures: dict[str, Any] = {}
        for name, act, after in (
            ("release", DeepLane.release, DeepLane.finish),
            ("poll", DeepLane.poll, lambda _: None),
        ):
            sampling = [lane.sample() for lane in (few, many)]
            for lane in (few, many):
                _timed(lane, act, after)  # connections and plans are made
            pairs = [[_timed(lane, act, after) for lane in (few, many)] for _ in range(_PAIRS)]
            ratio = median(deep / shallow for shallow, deep in pairs)
            times = [median(pair[side] for pair in pairs) for side in (0, 1)]
            buffers = [] if few.database.is_sqlite else [_buffers(lane, act, after) for lane in (few, many)]
            kept = ratio < _MOST_RATIO and (not buffers or abs(buffers[0] - buffers[1]) <= _MOST_BUFFERS_APART)
            shown = " | ".join(str(count) for count in buffers) or "- | -"
            cells = f"{1e3 * times[0]:.2f} ms | {1e3 * times[1]:.2f} ms | {ratio:.2f} | {shown}"
            print(f"| {name} | {cells} | {'kept' if kept else 'missed'}", flush=True)
            figures[name] = {"seconds": times, "ratio": ratio, "buffers": buffers}
        print(f"| sampling a lane, once a second at most | {1e3 * sampling[0]:.0f} ms | {1e3 * sampling[1]:.0f} ms |")
        for lane in (few, many):
            lane.database.close()
        return figures


def _timed(lane: DeepLane, act: Callable[[DeepLane], Any], after: Callable[[DeepLane], None]) -> float:
    """Median seconds of one."""
    taken = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        act(lane)
        taken.append(time.perf_counter() - began)
        after(lane)
    return median(taken)


def _buffers(lane: DeepLane, act: Callable[[DeepLane], Any], after: Callable[[DeepLane], None]) -> int:
    """Of all statements of one."""
    with lane.buffers() as touched:
        act(lane)
    after(lane)
    return sum(touched)


@contextmanager
def _fresh(database: str) -> Iterator[str]:
    if database == "postgresql":
        with postgresql.fresh_database() as url:
            yield url
    else:
        with tempfile.TemporaryDirectory(prefix="tidegate-benchmark-") as folder:
            yield sqlite.fresh_database(Path(folder))


if __name__ == "__main__":
    main()
