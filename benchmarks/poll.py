"""Polls a second, of pending and final jobs, and 304s, against an empty Flask route. `python -m benchmarks.poll -h`."""

from collections.abc import Sequence
from functools import partial

from benchmarks.pacing.stack import Stack
from benchmarks.speed import command
from benchmarks.speed.cluster import CALL, running
from benchmarks.speed.command import POSTGRESQL, TITLES, Scale
from benchmarks.speed.figure import Figure, in_turns
from benchmarks.speed.load import Request, put_on
from tests.support.waiting import wait_until

_JOBS = 200
# By pace one of them is let go a minute, from the oldest on.
_LET_GO = 20
_OURS = {"pending": (0.25, 0.5), "final": (0.35, 0.7), "304": (0.3, 0.6)}
_OURS_SQLITE = {"pending": (0.45, 0.6), "final": (0.55, 0.75), "304": (0.5, 0.7)}


def measure(database: str, scale: Scale) -> Sequence[Figure]:
    """Polls a second; waiting jobs wait for their pace, and 304 is said of them."""
    with running(database) as cluster:
        stack = cluster.stack
        pending, final = _pending(stack), _final(stack)
        requests = {
            "pending": Request(paths=pending),
            "final": Request(paths=final),
            "304": Request(paths=pending, headers={"If-None-Match": _tag_of_all(stack, pending)}),
        }
        measures = {name: partial(_per_second, stack.port, request, scale) for name, request in requests.items()}
        measures["empty"] = partial(_per_second, cluster.yardstick_port, Request(paths=["/empty"]), scale)
        in_turns(measures, 1)  # connections and threads are made
        values = in_turns(measures, scale.rounds)
    goals = _OURS if database == POSTGRESQL else _OURS_SQLITE
    return [
        Figure(
            what=f"poll, {name}",
            database=TITLES[database],
            unit="/s",
            ours=values[name],
            yardstick="an empty Flask route",
            theirs=values["empty"],
            reach=reach,
            aim=aim,
        )
        for name, (reach, aim) in goals.items()
    ]


def _per_second(port: int, request: Request, scale: Scale) -> float:
    return put_on(port, request, scale.seconds).per_second


def _pending(stack: Stack) -> list[str]:
    answers = stack.submit_many("slow", _LET_GO + _JOBS)
    return [f"/v1/jobs/{answer.document['id']}" for answer in answers[_LET_GO:]]


def _final(stack: Stack) -> list[str]:
    paths = [f"/v1/jobs/{answer.document['id']}" for answer in stack.submit_many(CALL, _JOBS)]
    wait_until(
        lambda: all(stack.request("GET", path).status == 200 for path in paths),
        description="every job has a result",
        timeout_seconds=60,
    )
    return paths


def _tag_of_all(stack: Stack, paths: Sequence[str]) -> str:
    """The one tag that jobs have which nobody has touched yet."""
    (tag,) = {stack.request("GET", path).headers["etag"] for path in paths}
    return tag


if __name__ == "__main__":
    command.main("poll", __doc__, measure)
