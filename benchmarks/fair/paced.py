"""Twenty lanes of ten calls a second, with real workers: what each gets of its pace."""

import time
from collections import Counter
from dataclasses import dataclass

from benchmarks.fair.gateway import operation, running
from benchmarks.pacing.arrivals import most_within, read_log
from benchmarks.verdict import Verdicts

_RATE = 10
_SETTLED_SECONDS = 2
_LEAST_USED = 0.97


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many lanes, for how long."""

    lanes: int
    seconds: float


FULL = Scale(lanes=20, seconds=40)
QUICK = Scale(lanes=20, seconds=10)


def measure(verdicts: Verdicts, scale: Scale) -> None:
    """All lanes have a backlog, and are let go at once."""
    lanes = [f"lane-{number}" for number in range(scale.lanes)]
    operations = "\n".join(f'[downstreams.{name}]\nrate = "{_RATE}/s"\n{operation(name)}' for name in lanes)
    jobs = int(_RATE * (scale.seconds + 4 * _SETTLED_SECONDS))
    with running(verdicts.database, operations) as (stack, callers):
        for name in lanes:
            stack.limit(name, paused=True)
            callers.submit(name, [None] * jobs)
        for name in lanes:
            stack.limit(name, paused=False)
        began = time.time() + _SETTLED_SECONDS
        time.sleep(scale.seconds + _SETTLED_SECONDS)
        ended = time.time()
        calls = read_log(stack.log)
    of_each = Counter(call.lane for call in calls if began <= call.at < ended)
    shares = [of_each[name] / (_RATE * (ended - began)) for name in lanes]
    used = sum(shares) / len(shares)
    verdicts.add(
        f"{scale.lanes} lanes of {_RATE}/s, real workers",
        f"{used:.1%} of their pace (98.0 % is the most), the slowest {min(shares):.1%}",
        is_kept=used >= _LEAST_USED,
    )
    most = max(most_within(1, [call.at for call in calls if call.lane == name]) for name in lanes)
    verdicts.add("most calls", f"{most} in any second of any lane", is_kept=most <= _RATE)
