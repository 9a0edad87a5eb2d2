"""Jobs on their way, made by the store itself: submitted, released, claimed. And their rows, to look at and to age."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import orjson
import uuid_utils
from sqlalchemy import Row, delete, func, insert, select, update

from tidegate import call_log, rate_limit
from tidegate.clock import MICROSECOND, to_microseconds
from tidegate.database.schema import IMPLICIT_CLIENT, attempts, bodies, downstreams, jobs, samples
from tidegate.database.statement import required
from tidegate.database.time import database_now
from tidegate.dispatch.downstream import Downstream
from tidegate.dispatch.gate import Gate
from tidegate.intake.submission import NewJob, Submission, place_in
from tidegate.jobs.job import Claim, Released
from tidegate.operations.limits import Limits
from tidegate.operations.operation import Body
from tidegate.operations.sharing import Sharing
from tidegate.stores import Store
from tidegate.webhooks.delivery import Webhook

LANE = "lane"
WORKER = "worker-1"
LEASE = timedelta(seconds=15)
ATTEMPT_TIMEOUT = timedelta(seconds=10)
LONG_AGO = timedelta(hours=2)


def open_lane(
    store: Store, name: str = LANE, *, queue: str = "io", size: int = 8, call_seconds: float = 1.0, **limits: Any
) -> None:
    """A downstream with these limits, and a worker that has `size` attempts side by side for it.

    `call_seconds`: how long its calls are known to take, which is too long for followers.
    """
    store.limits.declare([Limits(name=name, **limits)])
    know_call_seconds(store, call_seconds, name)
    name_of_worker = WORKER if queue == "io" else f"worker-of-{queue}"
    store.heartbeats.beat(name_of_worker, queue=queue, size=size, until=timedelta(minutes=5))


def know_call_seconds(store: Store, seconds: float, name: str = LANE) -> None:
    """What the sampler would have found out about the lane's calls by now."""
    figures = {"per_second": 1.0, "held_mean": seconds}
    nothing = {"backlog": 0, "by_client": "{}", "marks": "[]", "held": 0, "released": 0}
    with store.database.transaction() as connection:
        connection.execute(delete(samples).where(samples.c.downstream == name))
        connection.execute(
            insert(samples).values(downstream=name, taken_at=database_now(-LONG_AGO), **nothing, **figures)
        )


def submit(
    store: Store,
    *,
    lane: str = LANE,
    operation: str = "echo",
    queue: str = "io",
    timeout: timedelta = timedelta(minutes=1),
    max_attempts: int = 3,
    body: Body | None = None,
    webhook: Webhook | None = None,
    paced_by_calls: bool = False,
) -> str:
    """Records a job, queued; its id."""
    job_id = str(uuid_utils.uuid7())
    new = NewJob(
        id=job_id,
        client_id=IMPLICIT_CLIENT,
        operation=operation,
        downstream=lane,
        queue=queue,
        timeout=timeout,
        max_attempts=max_attempts,
        body=body or Body(content=b"{}"),
        webhook=webhook,
        paced_by_calls=paced_by_calls,
    )
    store.submissions.insert([new])
    return job_id


def submit_many(store: Store, count: int, *, lane: str = LANE, operation: str = "echo", queue: str = "io") -> None:
    """Records so many jobs in one transaction, queued for an hour."""
    new = NewJob(
        id="",
        client_id=IMPLICIT_CLIENT,
        operation=operation,
        downstream=lane,
        queue=queue,
        timeout=timedelta(hours=1),
        max_attempts=1,
        body=Body(content=b"{}"),
    )
    store.submissions.insert([replace(new, id=str(uuid_utils.uuid7())) for _ in range(count)])


def release(store: Store) -> list[Released]:
    """What the gate lets go now."""
    return list(Gate(store.lanes).run_once().released)


def release_one(store: Store) -> Released:
    """The one job that the gate lets go now."""
    (released,) = release(store)
    return released


def claim(
    store: Store,
    released: Released,
    *,
    worker: str = WORKER,
    pid: int = 1,
    lease: timedelta = LEASE,
    attempt_timeout: timedelta = ATTEMPT_TIMEOUT,
) -> Claim | None:
    """What a worker does with the message of this release."""
    return store.claims.claim(
        released.job_id,
        released.fence,
        worker=worker,
        pid=pid,
        lease=lease,
        attempt_timeouts={released.operation: attempt_timeout},
    )


def running(store: Store, *, worker: str = WORKER, pid: int = 1, **job: Any) -> Claim:
    """A job in the hands of a worker; the lane must be open and empty."""
    submit(store, **job)
    claimed = claim(store, release_one(store), worker=worker, pid=pid)
    assert claimed is not None
    return claimed


def downstreams_of(store: Store) -> list[Downstream]:
    """Every downstream as it is now, by name."""
    found = store.lane_rows.read_all(since=None)
    return sorted((row.downstream(found.now) for row in found.rows), key=attrgetter("name"))


def row_of(store: Store, job_id: str) -> Row[Any]:
    """The job's row as it lies there."""
    return required(store.database.fetch_one(select(jobs).where(jobs.c.id == job_id)))


def input_of(store: Store, job_id: str) -> Body | None:
    """The job's input as it lies there; None: there is none."""
    found = store.callers.body(job_id, "input")
    return found and Body(content=found.content, content_type=found.content_type, headers=found.headers)


def attempts_of(store: Store, job_id: str) -> list[Row[Any]]:
    """The job's attempts, in order."""
    statement = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.fence)
    return list(store.database.fetch_all(statement))


def outcomes_of(store: Store, job_id: str) -> list[str | None]:
    """How its attempts ended; None: not yet."""
    return [attempt.outcome for attempt in attempts_of(store, job_id)]


def lane_row(store: Store, name: str = LANE) -> Row[Any]:
    """The downstream's row."""
    return required(store.database.fetch_one(select(downstreams).where(downstreams.c.name == name)))


def count_of(store: Store, table: Any) -> int:
    """How many rows the table has."""
    return required(store.database.fetch_one(select(func.count()).select_from(table)))[0]


def result_of(store: Store, job_id: str) -> bytes | None:
    """The stored result."""
    with store.database.transaction() as connection:
        statement = select(bodies.c.content).where(bodies.c.job_id == job_id, bodies.c.kind == "result")
        return connection.execute(statement).scalar_one_or_none()


def change_job(store: Store, job_id: str, **values: Any) -> None:
    """Writes columns of the job past every guard: what time would have done."""
    store.database.execute(update(jobs).where(jobs.c.id == job_id).values(**values))


def change_attempts(store: Store, job_id: str, **values: Any) -> None:
    """Writes columns of all of its attempts."""
    store.database.execute(update(attempts).where(attempts.c.job_id == job_id).values(**values))


def change_lane(store: Store, name: str = LANE, **values: Any) -> None:
    """Writes columns of the downstream."""
    store.database.execute(update(downstreams).where(downstreams.c.name == name).values(**values))


def call_now(store: Store, name: str = LANE, *, calls: int = 1, spacing: timedelta = timedelta(hours=1)) -> None:
    """Calls that begin now, whatever the downstream's rates allow, and the next one is due so much later."""
    now = to_microseconds(time_at(store))
    pace = rate_limit.Pace.from_json(orjson.loads(lane_row(store, name).pace))
    later = replace(
        pace, free_at=now + spacing // MICROSECOND, log=call_log.with_calls(pace.log, max(now, pace.last), calls)
    )
    change_lane(store, name, pace=orjson.dumps(later.as_json()).decode())


def pass_deadline(store: Store, job_id: str) -> None:
    """Moves the job so far into the past that its deadline is over."""
    change_job(store, job_id, created_at=database_now(-LONG_AGO), deadline=database_now(-timedelta(seconds=1)))


def lose_lease(store: Store, job_id: str) -> None:
    """Its worker fell silent for longer than the lease."""
    change_job(store, job_id, lease_until=database_now(-timedelta(seconds=1)))


def time_at(store: Store) -> datetime:
    """The database's clock."""
    return required(store.database.fetch_one(select(database_now())))[0]


def submit_to_partitions(
    store: Store, names: Iterable[str], *, lane: str, operation: str, each: int = 1, client: str = IMPLICIT_CLIENT
) -> None:
    """Records so many jobs of each of these partitions of a lane that is shared by names, a thousand at once."""
    body = Body(content=b"{}")
    sharing = Sharing(by="header")
    places = [place_in(sharing, _of(operation, body, client, name)) for name in names for _ in range(each)]
    for first in range(0, len(places), 1000):
        store.submissions.insert(
            [
                NewJob(
                    id=str(uuid_utils.uuid7()),
                    client_id=client,
                    operation=operation,
                    downstream=lane,
                    queue="io",
                    timeout=timedelta(hours=1),
                    max_attempts=1,
                    body=body,
                    place=place,
                )
                for place in places[first : first + 1000]
            ]
        )


def _of(operation: str, body: Body, client: str, name: str) -> Submission:
    return Submission(operation=operation, body=body, client_id=client, partition=name or None)
