"""What a transaction that stays open costs the queue: a backup by pg_dump, or a session that somebody forgot.

`python -m benchmarks.long_snapshot --help`. PostgreSQL can't remove a row's old versions while a snapshot may yet see
them, so every look at the queue's indexes walks over the jobs that went since. Two databases get the same jobs in
turns, one of them with a snapshot open; at the end also what is left of it a minute after the snapshot has gone, which
is how often autovacuum looks.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from sqlalchemy.engine import make_url

from benchmarks.backlog.deep_lane import DeepLane
from benchmarks.backlog.pairs import Act, Pairs, compare
from benchmarks.backlog.rows import fresh
from benchmarks.speed import command
from benchmarks.speed.command import POSTGRESQL, TITLES, Scale
from benchmarks.speed.figure import Figure

_QUEUED = 1_000
_FEWER = 4
_MORE_FINAL = 5  # final jobs for each that goes: it is a table that has been in use for long
_AUTOVACUUM_SECONDS = 75
_ACTS = (
    Act(name="submit", do=DeepLane.submit),
    Act(name="look at the lanes", do=DeepLane.look),
    Act(name="job, from release to outcome", do=DeepLane.run),
)


def measure(database: str, scale: Scale) -> Sequence[Figure]:
    """Milliseconds of each act beside the open snapshot, against those without one."""
    figures: list[Figure] = []
    jobs = scale.jobs // _FEWER
    with fresh(database) as free_url, fresh(database) as held_url:
        free, held = (DeepLane(url, _QUEUED, final=_MORE_FINAL * jobs) for url in (free_url, held_url))
        with _snapshot(held_url):
            for _ in range(jobs):
                for lane in (free, held):
                    lane.submit()
                    lane.run()
            beside = f"a snapshot open for {jobs:,} jobs"
            figures += [_figure(compare(free, held, act, scale.pairs), beside) for act in _ACTS]
        time.sleep(_AUTOVACUUM_SECONDS)
        figures += [_figure(compare(free, held, act, scale.pairs), "a minute after it") for act in _ACTS]
        for lane in (free, held):
            lane.database.close()
    return figures


@contextmanager
def _snapshot(url: str) -> Iterator[None]:
    """As pg_dump has it open from its beginning to its end."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as session:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.execute("SELECT 1 FROM clients")
        yield


def _figure(pairs: Pairs, beside: str) -> Figure:
    return Figure(
        what=f"{pairs.name}, {beside}",
        database=TITLES[POSTGRESQL],
        unit="ms",
        ours=[1000 * seconds for seconds in pairs.many],
        yardstick="without it",
        theirs=[1000 * seconds for seconds in pairs.few],
        better="less",
    )


if __name__ == "__main__":
    command.main("long_snapshot", __doc__, measure, kinds=(POSTGRESQL,))
