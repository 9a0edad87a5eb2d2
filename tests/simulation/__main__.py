"""Simulates: `python -m tests.simulation --hours 1` with fresh seeds, one seed with its story, or planted bugs."""

import argparse
import logging
import os
import random
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tests.simulation import found, planted
from tests.simulation.plan import plan_of
from tests.simulation.run import simulate
from tests.simulation.shrink import shrunk, story_of

_MANY = 1_000_000


def main() -> int:
    """Runs what the arguments say; 1: a rule did not hold, or a planted bug was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", help="a seed, or the first and the last of many (1-100); else fresh ones")
    parser.add_argument("--hours", type=float, default=0.0, help="how long to go on")
    parser.add_argument("--seconds", type=float, default=0.0, help="the same in seconds; a minute if neither is said")
    parser.add_argument("--jobs", type=int, help="so many jobs in each; else ten to a hundred")
    parser.add_argument("--story", action="store_true", help="tell what happened, even if nothing is wrong")
    parser.add_argument("--whole", action="store_true", help="do not look for the fewest steps, and keep nothing")
    parser.add_argument("--again", type=Path, metavar="FILE", help="a plan that was kept")
    parser.add_argument("--planted", nargs="*", metavar="NAME", help="find planted bugs, all or those named")
    arguments = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set is a choice, too
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], _always_the_same())  # noqa: S606
    seconds = 3600 * arguments.hours + arguments.seconds
    if arguments.planted is not None:
        return planted.find(arguments.planted, seconds=seconds or planted.LONGEST_SECONDS)
    logging.disable(logging.WARNING)
    if arguments.again:
        return _again(arguments.again)
    if not arguments.seeds:
        seconds = seconds or 60.0
    return _look(_seeds(arguments.seeds), seconds, arguments)


def _look(seeds: Iterable[int], seconds: float, arguments: argparse.Namespace) -> int:
    """Simulates seed by seed until one breaks a rule or the time is over."""
    until = time.monotonic() + (seconds or float("inf"))
    number, jobs = 0, 0
    for seed in seeds:
        if time.monotonic() > until:
            break
        plan = plan_of(seed, arguments.jobs)
        simulated = simulate(seed, plan)
        number, jobs = number + 1, jobs + simulated.jobs
        if simulated.broken:
            _tell(f"seed {seed}: {simulated.broken}")
            if not arguments.whole:
                plan = shrunk(seed, plan, _tell)
                simulated = simulate(seed, plan)
                kept = found.keep(seed, plan, simulated.broken or "")
                _tell(f"kept as {kept}; again: make simulate ARGS='--again {kept}'")
            _tell(story_of(simulated, plan))
            return 1
        if arguments.story:
            _tell(story_of(simulated, plan))
    _tell(f"{number} seeds with {jobs} jobs, every rule held")
    return 0


def _again(path: Path) -> int:
    seed, plan = found.read(path)
    simulated = simulate(seed, plan)
    _tell(story_of(simulated, plan))
    return 1 if simulated.broken else 0


def _seeds(given: str | None) -> Iterable[int]:
    if given is None:
        first = random.SystemRandom().randrange(_MANY, _MANY * _MANY)
        _tell(f"from seed {first}")
        return range(first, first + _MANY)
    first_text, _, last = given.partition("-")
    return range(int(first_text), int(last or first_text) + 1)


def _always_the_same() -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": "0"}


def _tell(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command


if __name__ == "__main__":
    sys.exit(main())
