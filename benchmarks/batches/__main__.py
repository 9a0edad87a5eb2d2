"""Whether many jobs in one call keep what is promised of them. `python -m benchmarks.batches --help`.

Real processes (web, scheduler, workers, Valkey, a downstream that keeps a log of arrivals), some of which are killed
-9. Each part prints its figures and whether each bound was kept. The exit status is 1 if one was not.
"""

import sys
from collections.abc import Callable, Mapping

from benchmarks.batches import chaos, drain, lone, pace, poison, price
from benchmarks.verdict import Verdicts, measure_parts

PARTS: Mapping[str, Callable[[Verdicts, bool], None]] = {
    "pace": lambda verdicts, is_quick: pace.measure(verdicts, pace.QUICK if is_quick else pace.FULL),
    "lone": lambda verdicts, is_quick: lone.measure(verdicts, lone.QUICK if is_quick else lone.FULL),
    "chaos": lambda verdicts, is_quick: chaos.measure(verdicts, chaos.QUICK if is_quick else chaos.FULL),
    "poison": lambda verdicts, is_quick: poison.measure_poison(verdicts, 5 if is_quick else 50),
    "outage": lambda verdicts, is_quick: poison.measure_outage(verdicts, poison.QUICK if is_quick else poison.FULL),
    "drain": lambda verdicts, is_quick: drain.measure(verdicts, drain.QUICK if is_quick else drain.FULL),
    "price": lambda verdicts, is_quick: price.measure(verdicts, price.QUICK if is_quick else price.FULL),
}


if __name__ == "__main__":
    sys.exit(measure_parts("batches", __doc__, PARTS))
