"""Whether partitions get what they are promised. `python -m benchmarks.fair --help`.

Real processes (web, scheduler, workers, Valkey, a downstream that keeps a log of arrivals), and processes killed -9.
Each part prints its figures and whether each bound was kept. The exit status is 1 if one was not. What a job costs
that uses no partitions tells `python -m benchmarks.price --beside REVISION --part acts`; what many lanes cost one
scheduler `python -m benchmarks.lanes`.
"""

import sys
from collections.abc import Callable, Mapping

from benchmarks.fair import held, limits, newcomer, paced, shared, strict
from benchmarks.verdict import Verdicts, measure_parts

PARTS: Mapping[str, Callable[[Verdicts, bool], None]] = {
    "bound": lambda verdicts, is_quick: shared.measure(verdicts, shared.QUICK if is_quick else shared.FULL),
    "newcomer": lambda verdicts, is_quick: newcomer.measure(verdicts, newcomer.QUICK if is_quick else newcomer.FULL),
    "limits": lambda verdicts, is_quick: limits.measure(verdicts, limits.QUICK if is_quick else limits.FULL),
    "held": lambda verdicts, is_quick: held.measure_held(verdicts, held.QUICK if is_quick else held.FULL),
    "first": lambda verdicts, is_quick: held.measure_first(verdicts, held.QUICK if is_quick else held.FULL),
    "strict": lambda verdicts, is_quick: strict.measure(verdicts, strict.QUICK if is_quick else strict.FULL),
    "paced": lambda verdicts, is_quick: paced.measure(verdicts, paced.QUICK if is_quick else paced.FULL),
}


if __name__ == "__main__":
    sys.exit(measure_parts("fair", __doc__, PARTS))
