"""Submits a second, against a bare INSERT and against hand-written jobs; their p99 at half that load.

`python -m benchmarks.submit --help`. With idle workers our lane is paused and the yardstick's workers stand still; with
draining ones both sides run no-op jobs meanwhile.
"""

from collections.abc import Callable, Sequence
from statistics import median

from sqlalchemy import Engine, Table, func, select

from benchmarks.speed import command
from benchmarks.speed.cluster import NOTHING, Cluster, running
from benchmarks.speed.command import POSTGRESQL, TITLES, Scale
from benchmarks.speed.figure import Figure, in_turns
from benchmarks.speed.load import Answers, Request, put_on, submits
from benchmarks.yardsticks import rows
from tidegate.database.schema import jobs

_OURS = f"/v1/operations/{NOTHING}/jobs"
_REACH_P99 = {True: 25.0, False: 100.0}
_AIM_P99 = {True: 10.0, False: 25.0}


def measure(database: str, scale: Scale) -> Sequence[Figure]:
    """Submits a second, then milliseconds at half of them."""
    title = TITLES[database]
    with running(database) as cluster:
        submitter = _Submitter(cluster, scale)
        submitter.warm_up()
        idle = in_turns(
            {"ours": submitter.ours, "insert": submitter.insert, "by hand": submitter.by_hand}, scale.rounds
        )
        draining = in_turns({"ours": submitter.ours_draining, "by hand": submitter.by_hand_draining}, scale.rounds)
        late = {
            "idle": in_turns(submitter.p99_at(median(idle["ours"]) / 2, submitter.resting), scale.rounds),
            "draining": in_turns(submitter.p99_at(median(draining["ours"]) / 2, submitter.draining), scale.rounds),
        }

    def compared(workers: str, name: str, values: dict[str, list[float]], reach: float, aim: float) -> Figure:
        return Figure(
            what=f"submit, workers {workers}",
            database=title,
            unit="/s",
            ours=values["ours"],
            yardstick=name,
            theirs=values["insert" if "INSERT" in name else "by hand"],
            reach=reach,
            aim=aim,
        )

    by_hand = "Flask + row + `delay()`"
    return [
        compared("idle", "Flask + one INSERT", idle, 0.8, 1.0),
        compared("idle", by_hand, idle, 2.0, 3.0),
        compared("draining", by_hand, draining, 1.5, 3.0),
        Figure(
            what="jobs done meanwhile",
            database=title,
            unit="/s",
            ours=submitter.done["ours"],
            yardstick=by_hand,
            theirs=submitter.done["by hand"],
        ),
        *(
            Figure(
                what=f"p99 of submit at half load, workers {workers}",
                database=title,
                unit="ms",
                ours=values["ours"],
                yardstick="Flask + one INSERT at the same load",
                theirs=values["insert"],
                better="less",
            )
            for workers, values in late.items()
        ),
        Figure(
            what="p99 of submit at half load, workers draining, in itself",
            database=title,
            unit="ms",
            ours=late["draining"]["ours"],
            reach=_REACH_P99[database == POSTGRESQL],
            aim=_AIM_P99[database == POSTGRESQL],
            better="less",
        ),
    ]


class _Submitter:
    """Each measurement leaves empty tables and idle workers behind."""

    def __init__(self, cluster: Cluster, scale: Scale) -> None:
        self._cluster = cluster
        self._scale = scale
        self._engine: Engine = rows.connect(cluster.yardstick_url)
        self.done: dict[str, list[float]] = {"ours": [], "by hand": []}
        cluster.pause(paused=True)

    def warm_up(self) -> None:
        """Connections, threads and plans are made."""
        for path, port in ((_OURS, self._port), ("/insert", self._other_port), ("/jobs", self._other_port)):
            put_on(port, submits(path), 1)
        self._cluster.forget()

    def ours(self) -> float:
        """Ours; nothing is released."""
        return self.resting(lambda: self._put_on(self._port, submits(_OURS)).per_second)

    def insert(self) -> float:
        """A row and nothing else."""
        return self.resting(lambda: self._put_on(self._other_port, submits("/insert")).per_second)

    def by_hand(self) -> float:
        """A row and a message, which nobody takes."""
        workers = self._cluster.yardstick_workers
        self._cluster.freeze(workers, frozen=True)
        answers = self._put_on(self._other_port, submits("/jobs"))
        with self._cluster.broker.client() as client:
            client.flushall()
        self._cluster.freeze(workers, frozen=False)
        self._cluster.forget()
        return answers.per_second

    def ours_draining(self) -> float:
        """Ours, run meanwhile."""
        return self.draining(lambda: self._put_on_and_count("ours", self._port, _OURS, jobs))

    def by_hand_draining(self) -> float:
        """A row and a message, run meanwhile."""
        return self.resting(lambda: self._put_on_and_count("by hand", self._other_port, "/jobs", rows.requests))

    def p99_at(
        self, per_second: float, situation: Callable[[Callable[[], float]], float]
    ) -> dict[str, Callable[[], float]]:
        """Milliseconds at so many submits a second."""

        def p99(port: int, path: str) -> float:
            answers = put_on(port, submits(path), self._scale.seconds, per_second=per_second)
            return 1000 * answers.p99

        return {
            "ours": lambda: situation(lambda: p99(self._port, _OURS)),
            "insert": lambda: self.resting(lambda: p99(self._other_port, "/insert")),
        }

    def resting(self, measured: Callable[[], float]) -> float:
        """While our lane is paused."""
        value = measured()
        self._cluster.forget()
        return value

    def draining(self, measured: Callable[[], float]) -> float:
        """While our jobs run."""
        self._cluster.pause(paused=False)
        value = measured()
        self._cluster.pause(paused=True)
        self._cluster.forget()
        return value

    def _put_on_and_count(self, name: str, port: int, path: str, table: Table) -> float:
        answers = self._put_on(port, submits(path))
        engine = self._cluster.database.engine if table is jobs else self._engine
        with engine.connect() as connection:
            done = select(func.count()).select_from(table).where(table.c.finished_at.is_not(None))
            self.done[name].append(connection.execute(done).scalar_one() / self._scale.seconds)
        return answers.per_second

    def _put_on(self, port: int, request: Request) -> Answers:
        return put_on(port, request, self._scale.seconds)

    @property
    def _port(self) -> int:
        return self._cluster.stack.port

    @property
    def _other_port(self) -> int:
        return self._cluster.yardstick_port


if __name__ == "__main__":
    command.main("submit", __doc__, measure)
