"""No-op jobs a second through one worker process and through two, against no-op tasks through bare Celery workers.

`python -m benchmarks.drain --help`. All jobs wait in their lane before the first is let go; each round takes a part of
them, and as many tasks lie in the yardstick's broker before its workers may begin.
"""

import time
from collections.abc import Sequence
from functools import partial
from itertools import islice

from celery import Celery
from sqlalchemy import BigInteger, func, select, type_coerce

from benchmarks.chaos.checks import held_places
from benchmarks.speed import command
from benchmarks.speed.cluster import NOTHING, Cluster, running, shape
from benchmarks.speed.command import TITLES, Scale
from benchmarks.speed.figure import Figure, in_turns
from benchmarks.yardsticks.worker import QUEUE, nothing
from tests.support.waiting import wait_until
from tidegate.database.schema import jobs
from tidegate.database.statement import required
from tidegate.database.time import database_now

_MOST_AT_ONCE = 1000
_MOST_STATEMENTS = 4
_LONGEST_SECONDS = 600
_LOOK_SECONDS = 0.2


def measure(database: str, scale: Scale) -> Sequence[Figure]:
    """Jobs a second, and statements a job where the server counts them."""
    return [figure for workers in (1, 2) for figure in _measure(database, scale, workers)]


def _measure(database: str, scale: Scale, workers: int) -> Sequence[Figure]:
    a_round = scale.jobs // scale.rounds
    processes = "1 worker process" if workers == 1 else f"{workers} worker processes"
    with running(database, shape(workers=workers), counts=True) as cluster:
        drain = _Drain(cluster, a_round)
        drain.fill(scale.jobs)
        values = in_turns({"ours": drain.ours, "bare": drain.bare}, scale.rounds)
    figures = [
        Figure(
            what=f"drain of {scale.jobs:,} no-op jobs, {processes}",
            database=TITLES[database],
            unit="/s",
            ours=values["ours"],
            yardstick="no-op tasks, bare Celery",
            theirs=values["bare"],
            reach=0.5,
            aim=1.0,
        )
    ]
    if drain.statements:
        statements = partial(Figure, database=TITLES[database], unit="", better="less")
        figures += [
            statements(what=f"statements a job, {processes}", ours=drain.statements, reach=_MOST_STATEMENTS),
            statements(what=f"BEGIN and COMMIT a job beside them, {processes}", ours=drain.control),
        ]
    return figures


class _Drain:
    """Lets `a_round` jobs, or tasks, go and times them."""

    def __init__(self, cluster: Cluster, a_round: int) -> None:
        self._cluster = cluster
        self._a_round = a_round
        self._left = 0
        self.statements: list[float] = []
        self.control: list[float] = []

    def fill(self, count: int) -> None:
        """Submits so many jobs to the paused lane."""
        self._left += count
        self._cluster.pause(paused=True)
        numbered = iter(range(count))
        while items := [{"input": {"n": number}} for number in islice(numbered, _MOST_AT_ONCE)]:
            answer = self._cluster.stack.request("POST", f"/v1/operations/{NOTHING}/jobs/bulk", items)
            if answer.status != 202:
                raise RuntimeError(f"the bulk submit was answered {answer.status}: {answer.document}")

    def ours(self) -> float:
        """Jobs a second, from the moment that the lane is opened to the end of the last one of the round."""
        cluster = self._cluster
        sent = cluster.servers.sent(cluster.stack.database_url)
        began = self._now()
        cluster.pause(paused=False)
        give_up_at = time.monotonic() + _LONGEST_SECONDS
        # Looked at seldom: each look is a statement too.
        while (done := self._finished_since(began)) < min(self._a_round, self._left):
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"only {done} jobs were done in {_LONGEST_SECONDS} s")
            time.sleep(_LOOK_SECONDS)
        if sent and (after := cluster.servers.sent(cluster.stack.database_url)):
            self.statements.append(after.since(sent).statements / done)
            self.control.append(after.since(sent).control / done)
        cluster.pause(paused=True)
        wait_until(lambda: held_places(cluster.database) == 0, description="no job runs", timeout_seconds=60)
        ends = self._ends_since(began)
        self._left -= len(ends)
        counted = ends[: self._a_round]
        return 1e6 * len(counted) / (counted[-1] - began)

    def bare(self) -> float:
        """Tasks a second, from the moment that the workers wake up to the last one that they took."""
        cluster = self._cluster
        cluster.freeze(cluster.yardstick_workers, frozen=True)
        with (
            Celery("publisher", broker=cluster.broker.url) as publisher,
            publisher.producer_pool.acquire(block=True) as producer,
            producer.batch(),  # type: ignore[attr-defined] # new in kombu 5.7
        ):
            for _ in range(self._a_round):
                publisher.send_task(nothing.name, queue=QUEUE, ignore_result=True, producer=producer)
        began = time.monotonic()
        cluster.freeze(cluster.yardstick_workers, frozen=False)
        with cluster.broker.client() as client:
            wait_until(
                lambda: client.llen(QUEUE) == 0 and client.hlen("unacked") == 0,
                description="every task is taken",
                timeout_seconds=_LONGEST_SECONDS,
            )
        return self._a_round / (time.monotonic() - began)

    def _now(self) -> int:
        return required(self._cluster.database.fetch_one(select(type_coerce(database_now(), BigInteger))))[0]

    def _finished_since(self, began: int) -> int:
        finished = type_coerce(jobs.c.finished_at, BigInteger) >= began
        return required(self._cluster.database.fetch_one(select(func.count()).select_from(jobs).where(finished)))[0]

    def _ends_since(self, began: int) -> list[int]:
        finished_at = type_coerce(jobs.c.finished_at, BigInteger)
        with self._cluster.database.transaction() as connection:
            return list(
                connection.execute(select(finished_at).where(finished_at >= began).order_by(finished_at)).scalars()
            )


if __name__ == "__main__":
    command.main("drain", __doc__, measure)
