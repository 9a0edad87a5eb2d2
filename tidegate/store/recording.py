"""Recording new jobs: many in a transaction, or one, as most submits are, in a single statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, false, func, insert, literal, select, type_coerce

from tidegate.database import Database, database_now
from tidegate.delivery import Webhook
from tidegate.job import Job
from tidegate.models import bodies, jobs
from tidegate.operations import Body
from tidegate.prepared import Prepared
from tidegate.store.deliveries import record_webhooks
from tidegate.store.moves import JOB_COLUMNS, NOW, job_from, job_of

# Between the jobs of one batch, so that each has a place of its own in the lane's order.
_STEP = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a submit records."""

    id: str
    client_id: str
    operation: str
    downstream: str
    queue: str
    timeout: timedelta
    not_before: datetime | None = None
    max_attempts: int
    paced_by_calls: bool = False
    traceparent: str | None = None
    retry_of: str | None = None
    idempotency_key: str | None = None
    fingerprint: bytes | None = None
    webhook: Webhook | None = None
    body: Body


_PLAIN = (
    *("id", "client_id", "operation", "downstream", "queue"),
    *("max_attempts", "paced_by_calls", "traceparent", "retry_of"),
)
_ITS = {name: bindparam(f"its_{name}", type_=jobs.c[name].type) for name in (*_PLAIN, "run_at")}
_INPUT = {name: bindparam(f"input_{name}", type_=bodies.c[name].type) for name in ("content_type", "content")}


def _at_once() -> Any:
    """For PostgreSQL: job and input in one statement, and so in one round trip and one commit."""
    clock = select(NOW.label("now")).cte("clock")
    instants = {
        "created_at": clock.c.now,
        "run_at": func.coalesce(type_coerce(_ITS["run_at"], BigInteger), clock.c.now),
        "deadline": clock.c.now + bindparam("timeout", type_=BigInteger),
    }
    plain = {name: _ITS[name] for name in _PLAIN}
    job = (
        insert(jobs)
        .from_select([*plain, *instants], select(*plain.values(), *instants.values()).select_from(clock))
        .returning(*JOB_COLUMNS)
        .cte("job")
    )
    body = {"job_id": job.c.id, "kind": literal("input"), "is_json": false(), **_INPUT}
    its_input = insert(bodies).from_select([*body], select(*body.values())).cte("its_input")
    return select(*job.c).add_cte(its_input)


_RECORD_ONE = Prepared(_at_once(), job_of)


def can_be_recorded_at_once(new: Sequence[NewJob]) -> bool:
    """Whether this is one job with nothing that belongs into its transaction."""
    return len(new) == 1 and new[0].idempotency_key is None and new[0].webhook is None


def record_at_once(database: Database, new: NewJob) -> Job:
    """Records one job and its input on PostgreSQL; when this returns they are committed."""
    values = {f"its_{name}": getattr(new, name) for name in _PLAIN}
    values |= {"its_run_at": new.not_before, "timeout": new.timeout // _STEP}
    values |= {"input_content_type": new.body.content_type, "input_content": new.body.content}
    recorded = database.ask(_RECORD_ONE, values)
    if recorded is None:
        raise LookupError("PostgreSQL inserted a row and returned none")
    return recorded


def record(connection: Connection, new: Sequence[NewJob]) -> dict[str, Job]:
    """Records jobs and their inputs; by id."""
    if not new:
        return {}
    # Read after the keys, which may have been waited for: a job's time begins when it is recorded.
    now = connection.execute(select(database_now())).scalar_one()
    rows = connection.execute(
        insert(jobs).returning(*JOB_COLUMNS),
        [
            {
                "id": job.id,
                "client_id": job.client_id,
                "operation": job.operation,
                "downstream": job.downstream,
                "queue": job.queue,
                "max_attempts": job.max_attempts,
                "paced_by_calls": job.paced_by_calls,
                "traceparent": job.traceparent,
                "retry_of": job.retry_of,
                "has_webhook": job.webhook is not None,
                "created_at": now,
                "run_at": job.not_before or now + number * _STEP,
                "deadline": now + job.timeout,
            }
            for number, job in enumerate(new)
        ],
    ).all()
    connection.execute(
        insert(bodies),
        [
            {
                "job_id": job.id,
                "kind": "input",
                "content_type": job.body.content_type,
                "is_json": False,
                "content": job.body.content,
            }
            for job in new
        ],
    )
    webhooks = {(job.id, job.client_id): job.webhook for job in new if job.webhook}
    if webhooks:
        record_webhooks(connection, webhooks)
    return {row.id: job_from(row) for row in rows}
