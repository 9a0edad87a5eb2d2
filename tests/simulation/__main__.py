"""Simulates: `python -m tests.simulation --seeds 1-200`, one seed with its story, or the planted bugs (`--planted`)."""

import argparse
import logging
import os
import sys
import time

from tests.simulation import planted
from tests.simulation.plan import plan_of
from tests.simulation.run import simulate
from tests.simulation.shrink import shrunk, story_of


def main() -> int:
    """Runs what the arguments say; 1: a rule did not hold, or a planted bug was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="1-100", help="a seed, or the first and the last of many: 1-100")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--story", action="store_true", help="tell what happened, even if nothing is wrong")
    parser.add_argument("--whole", action="store_true", help="do not look for the fewest steps")
    parser.add_argument("--planted", nargs="*", metavar="NAME", help="find planted bugs, all or those named")
    arguments = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set is a choice, too
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], _always_the_same())  # noqa: S606
    if arguments.planted is not None:
        return planted.find(arguments.planted, seconds=min(arguments.seconds, planted.LONGEST_SECONDS))
    logging.disable(logging.WARNING)
    first, _, last = arguments.seeds.partition("-")
    began = time.monotonic()
    number = 0
    for seed in range(int(first), int(last or first) + 1):
        if time.monotonic() - began > arguments.seconds:
            break
        number += 1
        plan = plan_of(seed)
        simulated = simulate(seed, plan)
        if simulated.broken:
            _tell(f"seed {seed}: {simulated.broken}")
            if not arguments.whole:
                plan = shrunk(seed, plan, _tell)
            _tell(story_of(simulate(seed, plan), plan))
            _tell(f"again: python -m tests.simulation --seeds {seed}")
            return 1
        if arguments.story:
            _tell(story_of(simulated, plan))
    _tell(f"{number} seeds, every rule held")
    return 0


def _always_the_same() -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": "0"}


def _tell(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command


if __name__ == "__main__":
    sys.exit(main())
