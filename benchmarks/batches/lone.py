"""The round trip of a job that nothing waits beside, by an operation with batches and by one without."""

import http.client
import json
import time
from collections.abc import Sequence
from statistics import median

from benchmarks.batches.gateway import operation, running
from benchmarks.commands import HOST
from benchmarks.verdict import Verdicts

_MORE_MS = 2.0
_FIRST = 60
"""Pairs before: connections and plans are made by them."""
FULL, QUICK = 300, 30
_LANES = ("with-batches", "without")


def measure(verdicts: Verdicts, pairs: int) -> None:
    """So many interleaved pairs; every other one goes the other way round."""
    lanes = [operation(name, "", "0", is_batch=name == _LANES[0]) for name in _LANES]
    with running(verdicts.database, lanes) as stack:
        connection = http.client.HTTPConnection(HOST, stack.port, timeout=30)
        trips: dict[str, list[float]] = {name: [] for name in _LANES}
        for number in range(pairs + _FIRST):
            for name in _LANES if number % 2 else _LANES[::-1]:
                trips[name].append(_trip(connection, name))
        connection.close()
    kept = {name: values[_FIRST:] for name, values in trips.items()}
    difference = median(one - other for one, other in zip(*kept.values(), strict=True))
    verdicts.add(
        f"a lone job's round trip, {pairs} interleaved pairs",
        f"{difference:+.2f} ms, the median of the differences; {_told(kept['with-batches'])} with batches,"
        f" {_told(kept['without'])} without; {_MORE_MS:g} ms more at the most",
        is_kept=difference <= _MORE_MS,
    )


def _told(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ms"


def _trip(connection: http.client.HTTPConnection, name: str) -> float:
    """Milliseconds from the submit to the result, with `Prefer: wait`."""
    headers = {"Content-Type": "application/json", "Prefer": "wait=20"}
    began = time.perf_counter()
    connection.request("POST", f"/v1/operations/{name}/jobs", json.dumps({"n": 1}), headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{name} was answered {answer.status}: {content[:500]!r}")
    return 1000 * (time.perf_counter() - began)
