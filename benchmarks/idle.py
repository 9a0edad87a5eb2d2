"""What an idle cluster costs: 10 workers, 2 schedulers, 2 web processes, against the same bare Celery workers.

`python -m benchmarks.idle --help`. Both lie idle side by side and are looked at in the same windows.
"""

import time
from collections.abc import Sequence

import psutil

from benchmarks.speed import command
from benchmarks.speed.cluster import Cluster, running, shape
from benchmarks.speed.command import POSTGRESQL, TITLES, Scale
from benchmarks.speed.figure import Figure

_WORKERS, _SCHEDULERS, _WEBS = 10, 2, 2
_SETTLED_SECONDS = 5
_MOST_STATEMENTS = 20
_MOST_PERCENT_MORE = 1


def measure(database: str, scale: Scale) -> Sequence[Figure]:
    """Percent of a core, and statements a second."""
    ours, bare, statements = [], [], []
    with running(database, shape(workers=_WORKERS, schedulers=_SCHEDULERS, webs=_WEBS), counts=True) as cluster:
        time.sleep(_SETTLED_SECONDS)
        for _ in range(scale.rounds):
            before = _used(_ours(cluster)), _used(_bare(cluster))
            sent = cluster.servers.sent(cluster.stack.database_url)
            began = time.monotonic()
            time.sleep(scale.idle_seconds)
            seconds = time.monotonic() - began
            after = cluster.servers.sent(cluster.stack.database_url)
            ours.append(100 * (_used(_ours(cluster)) - before[0]) / seconds)
            bare.append(100 * (_used(_bare(cluster)) - before[1]) / seconds)
            if sent and after:
                statements.append(after.since(sent).statements / seconds)
    title = TITLES[database]
    figures = [
        Figure(
            what="idle cluster", database=title, unit="% of a core", ours=ours, yardstick="bare Celery", theirs=bare
        ),
        Figure(
            what="idle cluster, beyond bare Celery",
            database=title,
            unit="% of a core",
            ours=[own - their for own, their in zip(ours, bare, strict=True)],
            reach=_MOST_PERCENT_MORE,
            better="less",
        ),
    ]
    if statements:
        figures.append(
            Figure(
                what="idle cluster, statements",
                database=title,
                unit="/s",
                ours=statements,
                reach=_MOST_STATEMENTS,
                better="less",
            )
        )
    return figures


def _ours(cluster: Cluster) -> list[int]:
    stack = cluster.stack
    own = (stack.web, stack.scheduler, *stack.spare_schedulers, *stack.workers, stack.broker.process)
    return [*(process.pid for process in own), *([cluster.servers.pid] if cluster.servers.pid else [])]


def _bare(cluster: Cluster) -> list[int]:
    return [process.pid for process in (*cluster.yardstick_workers, cluster.broker.process)]


def _used(pids: Sequence[int]) -> float:
    """Seconds of processor that these and their children have had."""
    everyone = [each for pid in pids for each in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
    return sum(times.user + times.system for times in (each.cpu_times() for each in everyone))


if __name__ == "__main__":
    command.main("idle", __doc__, measure, kinds=(POSTGRESQL,))
