"""Inserts new jobs with their inputs: many in a transaction, or one, as most submits are, in a single statement."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Integer,
    Text,
    bindparam,
    case,
    false,
    func,
    insert,
    literal,
    select,
    true,
)

from tidegate.clock import MICROSECOND, to_microseconds
from tidegate.database.connection import Database
from tidegate.database.json_rows import SMALL, as_bytes, as_parameter, as_text, given_rows
from tidegate.database.schema import bodies, jobs
from tidegate.database.statement import Prepared, required
from tidegate.database.time import CLOCK
from tidegate.intake.submission import NewJob, PartitionPlace
from tidegate.jobs.job import Job, headers_text
from tidegate.jobs.transitions import JOB_COLUMNS, NOW, job_from, job_of
from tidegate.operations.sharing import USUAL_PRIORITY
from tidegate.webhooks.store import record_webhooks

_PLAIN = (
    *("id", "client_id", "operation", "downstream", "queue"),
    *("max_attempts", "paced_by_calls", "traceparent", "retry_of"),
)
_INSTANTS = ("created_at", "run_at", "deadline", "rank_at")
_OF_PARTITION = ("partition", "priority", "keeps_rank")
_ITS = {
    name: bindparam(f"its_{name}", type_=jobs.c[name].type)
    for name in (*_PLAIN, *_INSTANTS, *_OF_PARTITION, "has_webhook")
}
_INPUT = {
    name: bindparam(f"input_{name}", type_=bodies.c[name].type) for name in ("content_type", "content", "headers")
}
_JOB = Prepared(insert(jobs).values(_ITS).returning(*JOB_COLUMNS), job_of)
_ITS_INPUT = Prepared(insert(bodies).values(job_id=_ITS["id"], kind="input", is_json=False, **_INPUT), bool)


def _at_once() -> Any:
    """PostgreSQL's INSERT of jobs and inputs in one statement, and so in one round trip and one commit."""
    asked = {name: jobs.c[name].type for name in _PLAIN}
    asked |= {"number": Integer(), "not_before": BigInteger(), "timeout": BigInteger()}
    asked |= {"partition": Text(), "priority": Integer(), "behind": BigInteger(), "keeps_rank": Boolean()}
    asked |= {"content_type": bodies.c.content_type.type, "content": Text()}
    new = given_rows(asked)
    clock = select(NOW.label("now")).cte("clock")
    run_at = func.coalesce(new.c.not_before, clock.c.now) + new.c.number
    instants = {
        "created_at": clock.c.now,
        "run_at": run_at,
        "deadline": clock.c.now + new.c.timeout,
        "rank_at": case((new.c.keeps_rank, clock.c.now + new.c.number), else_=run_at + new.c.behind),
    }
    plain = {name: new.c[name] for name in _PLAIN} | {
        "partition": new.c.partition,
        "priority": func.coalesce(new.c.priority, USUAL_PRIORITY),
        "keeps_rank": func.coalesce(new.c.keeps_rank, false()),
    }
    job = (
        insert(jobs)
        .from_select(
            [*plain, *instants], select(*plain.values(), *instants.values()).select_from(new.join(clock, true()))
        )
        .returning(*JOB_COLUMNS)
        .cte("job")
    )
    body = {
        "job_id": new.c.id,
        "kind": literal("input"),
        "is_json": false(),
        "content_type": new.c.content_type,
        "content": as_bytes(new.c.content),
    }
    its_input = insert(bodies).from_select([*body], select(*body.values())).cte("its_input")
    return select(*job.c).add_cte(its_input)


_RECORD_AT_ONCE = Prepared(_at_once(), job_of)


def can_be_recorded_at_once(new: NewJob) -> bool:
    """Whether a job can be inserted by the batched statement: no key, no webhook, a small input without headers."""
    is_plain = new.idempotency_key is None and new.webhook is None and not new.body.headers
    return is_plain and len(new.body.content) <= SMALL


def record_at_once(database: Database, new: Sequence[NewJob]) -> Sequence[Job]:
    """Inserts jobs that `can_be_recorded_at_once`, with their inputs; when this returns they are committed."""
    recorded = (_in_one_transaction if database.is_sqlite else _in_one_statement)(database, new)
    return [recorded[job.id] for job in new]


def _in_one_transaction(database: Database, new: Sequence[NewJob]) -> dict[str, Job]:
    return database.batched(lambda connection: record(database, connection, new))


def _in_one_statement(database: Database, new: Sequence[NewJob]) -> dict[str, Job]:
    rows = (
        {
            **{name: getattr(job, name) for name in _PLAIN},
            "number": number,
            "not_before": None if job.not_before is None else to_microseconds(job.not_before),
            "timeout": job.timeout // MICROSECOND,
            "content_type": job.body.content_type,
            "content": as_text(job.body.content),
            **(_given_place(job.place) if job.place else {}),
        }
        for number, job in enumerate(new)
    )
    return {job.id: job for job in database.fetch_all(_RECORD_AT_ONCE, as_parameter(rows))}


def record(database: Database, connection: Connection, new: Sequence[NewJob]) -> dict[str, Job]:
    """Inserts jobs, their inputs and webhooks in this transaction; returns the jobs by id."""
    if not new:
        return {}
    # The clock is read after the keys' INSERT, which may have waited: a job's timeout begins when it is recorded.
    now = required(database.fetch_one(CLOCK, within=connection))
    recorded = (_each if database.is_sqlite else _all)(database, connection, new, now)
    webhooks = {(job.id, job.client_id): job.webhook for job in new if job.webhook}
    if webhooks:
        record_webhooks(connection, webhooks)
    return {job.id: job for job in recorded}


def _each(database: Database, connection: Connection, new: Sequence[NewJob], now: datetime) -> Sequence[Job]:
    """On SQLite, where a statement costs no round trip: one INSERT for each row."""
    recorded = []
    for number, job in enumerate(new):
        values = {**_values_of(job), **{f"its_{name}": at for name, at in _instants(job, now, number).items()}}
        recorded.append(required(database.fetch_one(_JOB, values, within=connection)))
        database.execute(_ITS_INPUT, values, within=connection)
    return recorded


def _all(_: Database, connection: Connection, new: Sequence[NewJob], now: datetime) -> Sequence[Job]:
    """On PostgreSQL: one INSERT of many rows for each table; a thousand jobs are a handful of statements."""
    rows = connection.execute(
        insert(jobs).returning(*JOB_COLUMNS),
        [
            {
                **{name: getattr(job, name) for name in _PLAIN},
                "has_webhook": job.webhook is not None,
                **_instants(job, now, number),
                **_place(job),
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
                "headers": headers_text(job.body),
            }
            for job in new
        ],
    )
    return [job_from(row) for row in rows]


def _instants(job: NewJob, now: datetime, number: int) -> dict[str, datetime | None]:
    # One microsecond between jobs that are inserted together, so that run_at orders them within the lane.
    run_at = (job.not_before or now) + number * MICROSECOND
    rank_at = None
    if job.place:
        rank_at = now + number * MICROSECOND if job.place.keeps_rank else run_at + job.place.behind
    return {"created_at": now, "run_at": run_at, "deadline": now + job.timeout, "rank_at": rank_at}


def _place(job: NewJob) -> dict[str, Any]:
    if job.place is None:
        return {"partition": None, "priority": USUAL_PRIORITY, "keeps_rank": False}
    return {name: getattr(job.place, name) for name in _OF_PARTITION}


def _given_place(place: PartitionPlace) -> dict[str, Any]:
    return {**{name: getattr(place, name) for name in _OF_PARTITION}, "behind": place.behind // MICROSECOND}


def _values_of(job: NewJob) -> dict[str, Any]:
    return {
        **{f"its_{name}": getattr(job, name) for name in _PLAIN},
        **{f"its_{name}": value for name, value in _place(job).items()},
        "its_has_webhook": job.webhook is not None,
        "input_content_type": job.body.content_type,
        "input_content": job.body.content,
        "input_headers": headers_text(job.body),
    }
