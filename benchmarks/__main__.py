"""Runs every measurement of speed and writes one table. `python -m benchmarks --help`.

Each measures ours and what people would use instead in turns, so that whatever else runs on the machine meanwhile is
the same for both: only the ratios mean anything. Pacing, chaos, memory and the door have commands of their own.
"""

import argparse
import os
import time
from collections.abc import Mapping

from benchmarks import drain, idle, many_rows, poll, round_trip, submit
from benchmarks.speed import command
from benchmarks.speed.command import POSTGRESQL, SQLITE, Measurement
from benchmarks.speed.figure import Figure, table
from tests.support import run

_NAME = "speed"
_BOTH = (POSTGRESQL, SQLITE)
MEASUREMENTS: Mapping[str, tuple[Measurement, tuple[str, ...]]] = {
    "submit": (submit.measure, _BOTH),
    "poll": (poll.measure, _BOTH),
    "round_trip": (round_trip.measure, _BOTH),
    "drain": (drain.measure, _BOTH),
    "many_rows": (many_rows.measure, _BOTH),
    "idle": (idle.measure, (POSTGRESQL,)),
}


def main() -> None:
    """What is measured so far is written after each: an interrupted run loses only what it was at."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    command.add_scale(parser)
    arguments = parser.parse_args()
    figures: list[Figure] = []
    run.begin()
    try:
        for name, (measure, kinds) in MEASUREMENTS.items():
            for kind in kinds:
                began = time.monotonic()
                figures += measure(kind, arguments.scale)
                command.write(arguments.out, _NAME, figures)
                load = os.getloadavg()[0]
                print(f"{name}, {kind}: {time.monotonic() - began:.0f} s, load {load:.1f}", flush=True)
    finally:
        run.end()
    print(f"\n{table(figures)}\n\n{arguments.out / _NAME}.md and .json")


if __name__ == "__main__":
    main()
