"""Milliseconds from a submit to the result of an idle system, against bare Celery behind Flask.

`python -m benchmarks.round_trip --help`. One caller, one request after the other, to an HTTP operation whose downstream
answers at once. Ours asks with `Prefer: wait`, and where that does not hold the answer back, polls every 2 ms.
"""

import http.client
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from benchmarks.commands import HOST
from benchmarks.speed import command
from benchmarks.speed.cluster import CALL, running
from benchmarks.speed.command import TITLES, Scale
from benchmarks.speed.figure import Figure, in_turns

_WAIT = {"Prefer": "wait=10"}
_PAUSE_SECONDS = 0.002
_LONGEST_SECONDS = 30


def measure(database: str, scale: Scale) -> Sequence[Figure]:
    """The median of so many round trips, a round."""
    with running(database) as cluster:
        ours = http.client.HTTPConnection(HOST, cluster.stack.port, timeout=_LONGEST_SECONDS)
        theirs = http.client.HTTPConnection(HOST, cluster.yardstick_port, timeout=_LONGEST_SECONDS)
        measures = {
            "ours": partial(_median_ms, partial(_ours, ours), scale.trips),
            "bare": partial(_median_ms, partial(_bare, theirs), scale.trips),
        }
        in_turns(measures, 1)  # connections are made
        values = in_turns(measures, scale.rounds)
        ours.close()
        theirs.close()
    return [
        Figure(
            what="idle round trip, median",
            database=TITLES[database],
            unit="ms",
            ours=values["ours"],
            yardstick="Flask + bare `delay().get()`",
            theirs=values["bare"],
            reach=2.0,
            aim=1.2,
            better="less",
        )
    ]


def _median_ms(trip: Callable[[], None], trips: int) -> float:
    taken = []
    trip()  # over a new connection if the last has rested for too long while the other side was measured
    for _ in range(trips):
        began = time.perf_counter()
        trip()
        taken.append(1000 * (time.perf_counter() - began))
    return median(taken)


def _ours(connection: http.client.HTTPConnection) -> None:
    status, content = _ask(connection, "POST", f"/v1/operations/{CALL}/jobs", _WAIT)
    path = f"/v1/jobs/{json.loads(content)['id']}"
    until = time.monotonic() + _LONGEST_SECONDS
    while status == 202 and time.monotonic() < until:
        time.sleep(_PAUSE_SECONDS)
        status, content = _ask(connection, "GET", path, _WAIT)
    if status != 200:
        raise RuntimeError(f"{path} was answered {status}: {content[:500]!r}")


def _bare(connection: http.client.HTTPConnection) -> None:
    status, content = _ask(connection, "POST", "/round-trip", {})
    if status != 200:
        raise RuntimeError(f"the yardstick answered {status}: {content[:500]!r}")


def _ask(connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    body = "{}" if method == "POST" else None
    for again in (True, False):
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            break
        except (ConnectionError, http.client.HTTPException):
            connection.close()
            if not again:
                raise
    return answer.status, answer.read()


if __name__ == "__main__":
    command.main("round_trip", __doc__, measure)
