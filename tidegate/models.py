"""The tables, with the constraints that make an impossible row impossible.

`jobs` rows are small and hot; what callers send and get lies in `bodies`. An `attempts` row is made at the
release of a job and is the *place* that it holds at its downstream until the call has ended.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    false,
    text,
)

from tidegate.database import Instant
from tidegate.states import FINAL_STATES, State

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

IMPLICIT_CLIENT = "local"
"""Id of the one client there is while authentication is off."""

_FINAL = ", ".join(sorted(f"'{state}'" for state in FINAL_STATES))

clients = Table(
    "clients",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("client_id", ForeignKey("clients.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(100), nullable=False),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("role", String(10), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    CheckConstraint("role IN ('client', 'operator')", name="role"),
)

downstreams = Table(
    "downstreams",
    metadata,
    Column("name", String(100), primary_key=True),
    # What holds now: what the file declares, overlaid by what an operator changed.
    Column("rates", Text, nullable=False),  # JSON list of "50/s"; empty: no limit
    Column("burst", Integer, nullable=False),
    Column("concurrency", Integer),  # null: no limit
    Column("breaker_after", Integer, nullable=False),  # failures in a row; 0: no breaker
    Column("declared", Text, nullable=False),  # JSON object: the file's values of these four
    Column("changes", Text, nullable=False, server_default="{}"),  # JSON object: the operator's
    Column("pace", Text, nullable=False),  # JSON of pacing.Pace: what the past calls leave free
    Column("released", BigInteger, nullable=False, server_default="0"),  # jobs ever
    Column("paused", Boolean, nullable=False, server_default=false()),  # by an operator
    Column("paused_until", Instant),  # because the downstream asked for it
    Column(
        "refusals", Integer, nullable=False, server_default="0"
    ),  # pauses in a row, without any other answer between
    Column("failures", Integer, nullable=False, server_default="0"),  # in a row; at `breaker_after` the breaker is open
    CheckConstraint("burst >= 1", name="burst"),
    CheckConstraint("concurrency IS NULL OR concurrency >= 1", name="concurrency"),
)

samples = Table(
    "samples",
    metadata,
    Column("downstream", ForeignKey("downstreams.name", ondelete="CASCADE"), primary_key=True),
    Column("taken_at", Instant, nullable=False),
    Column("backlog", Integer, nullable=False),  # queued and not released
    Column("by_client", Text, nullable=False),  # JSON object: backlog by client
    Column("marks", Text, nullable=False),  # JSON list of (run_at, jobs before it), rising: positions without counting
    Column("held", Integer, nullable=False),  # places taken
    Column("released", BigInteger, nullable=False),  # jobs.released of the lane then
    Column("per_second", Float, nullable=False),  # releases, smoothed, while there was a backlog
    Column("held_mean", Float, nullable=False),  # places, smoothed likewise
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("queue", String(20), nullable=False),
    Column("size", Integer, nullable=False),  # attempts that it runs side by side
    Column("seen_until", Instant, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid(as_uuid=False), primary_key=True),  # version 7: sorts by time of submit
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    Column("operation", String(100), nullable=False),
    Column("downstream", String(100), nullable=False),
    Column("queue", String(20), nullable=False),
    Column("state", String(10), nullable=False, server_default=State.QUEUED.value),
    Column("version", Integer, nullable=False, server_default="1"),  # rises with every change that a caller can see
    Column("created_at", Instant, nullable=False),
    Column("run_at", Instant, nullable=False),  # not released before
    Column("deadline", Instant, nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("fence", Integer, nullable=False, server_default="0"),  # rises at every release
    Column("paced_by_calls", Boolean, nullable=False, server_default=false()),  # its attempts take a slot for each call
    Column("slot_at", Instant),  # set: released under `fence` and not come back since
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False),
    Column("losses", Integer, nullable=False, server_default="0"),  # attempts that ended with their process
    Column("waits_for", String(12)),  # why run_at lies ahead, for the caller
    Column("lease_until", Instant),
    Column("cancel_requested", Boolean, nullable=False, server_default=false()),
    Column("percent", Integer, nullable=False, server_default="0"),
    Column("done", BigInteger),
    Column("total", BigInteger),
    Column("note", String(200)),
    Column("error", Text),  # JSON object
    Column("traceparent", String(55)),
    Column("retry_of", Uuid(as_uuid=False)),
    # Its end makes its row in `deliveries` due, by a trigger: in the same transaction, whoever ends it.
    Column("has_webhook", Boolean, nullable=False, server_default=false()),
    CheckConstraint(f"state IN ({', '.join(repr(state.value) for state in State)})", name="state"),
    CheckConstraint(f"(state IN ({_FINAL})) = (finished_at IS NOT NULL)", name="finished"),
    CheckConstraint("(state = 'running') = (lease_until IS NOT NULL)", name="lease"),
    CheckConstraint("state <> 'running' OR slot_at IS NOT NULL", name="slot"),
    CheckConstraint("(percent = 100) = (state = 'succeeded') AND percent BETWEEN 0 AND 100", name="percent"),
    CheckConstraint("deadline > created_at", name="deadline"),
)

_DUE = text("state = 'queued' AND slot_at IS NULL")
Index(
    "ix_jobs_due",
    jobs.c.downstream,
    jobs.c.run_at,
    jobs.c.id,
    postgresql_where=_DUE,
    sqlite_where=_DUE,
)
_OPEN = text("state IN ('queued', 'running')")
Index("ix_jobs_deadline", jobs.c.deadline, postgresql_where=_OPEN, sqlite_where=_OPEN)
_RUNNING = text("state = 'running'")
Index("ix_jobs_lease", jobs.c.lease_until, postgresql_where=_RUNNING, sqlite_where=_RUNNING)
Index("ix_jobs_client", jobs.c.client_id, jobs.c.id)
_FINISHED = text("finished_at IS NOT NULL")
Index("ix_jobs_finished", jobs.c.finished_at, postgresql_where=_FINISHED, sqlite_where=_FINISHED)
_IS_RETRY = text("retry_of IS NOT NULL")
Index("ix_jobs_retry_of", jobs.c.retry_of, postgresql_where=_IS_RETRY, sqlite_where=_IS_RETRY)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("client_id", ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("job_id", Uuid(as_uuid=False), index=True),  # null: the job was erased
    Column("expires_at", Instant, index=True),  # only of an erased job; else the key goes with the job
)

bodies = Table(
    "bodies",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(6), primary_key=True),
    Column("content_type", String(200), nullable=False),
    Column("is_json", Boolean, nullable=False),  # parsed once, so that it can be put into a document as it is
    Column("content", LargeBinary, nullable=False),
    CheckConstraint("kind IN ('input', 'result')", name="kind"),
)

attempts = Table(
    "attempts",
    metadata,
    # No foreign key: a call may still be open, and hold its place, when its job is erased.
    Column("job_id", Uuid(as_uuid=False), primary_key=True),
    Column("fence", Integer, primary_key=True),
    Column("downstream", String(100), nullable=False),
    Column("queue", String(20), nullable=False),
    Column("released_at", Instant, nullable=False),
    Column("slot_at", Instant, nullable=False),
    Column("claimed_at", Instant),
    Column("worker", String(40)),
    Column("worker_pid", Integer),
    Column("call_started_at", Instant),
    Column("ends_at", Instant),  # its timeout
    Column("place_until", Instant, nullable=False),
    Column("ended_at", Instant),  # the place is free from here on
    Column("outcome", String(20)),
    # The attempt on whose place it waits for its turn; once that has ended, the place is its own.
    Column("follows_job", Uuid(as_uuid=False)),
    Column("follows_fence", Integer),
)
_FOLLOWS = text("follows_job IS NOT NULL")
Index("ix_attempts_follows", attempts.c.follows_job, postgresql_where=_FOLLOWS, sqlite_where=_FOLLOWS)
_HELD = text("ended_at IS NULL")
Index("ix_attempts_held", attempts.c.place_until, postgresql_where=_HELD, sqlite_where=_HELD)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("client_id", ForeignKey("clients.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("key_id", String(16), nullable=False),  # of the key that, with `salt`, makes the secret; neither tells it
    Column("salt", LargeBinary(32), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("signs_until", Instant),  # null: until it is rotated
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    Column("url", Text, nullable=False),
    Column("base_url", Text, nullable=False),  # of the links in the document
    Column("receiver", String(300), nullable=False),  # client and host: what places are counted by
    Column("state", String(10), nullable=False, server_default="waiting"),
    Column("event", String(20)),
    Column("created_at", Instant),  # of the event
    Column("began_at", Instant),  # tried for a day from here on; a sending by hand begins anew
    Column("run_at", Instant),  # not tried before
    Column("fence", Integer, nullable=False, server_default="0"),  # rises at every release and every claim
    Column("lease_until", Instant),  # set: on its way to a worker, or in the hands of one
    Column("tries", Integer, nullable=False, server_default="0"),  # since began_at
    Column("attempt", Integer, nullable=False, server_default="0"),  # ever
    Column("ended_at", Instant),
    CheckConstraint("state IN ('waiting', 'pending', 'delivered', 'failed')", name="state"),
    CheckConstraint("(state = 'waiting') = (event IS NULL)", name="event"),
    CheckConstraint("(state IN ('delivered', 'failed')) = (ended_at IS NOT NULL)", name="ended"),
    CheckConstraint("(state = 'pending') = (run_at IS NOT NULL)", name="run_at"),
    CheckConstraint("lease_until IS NULL OR state = 'pending'", name="lease"),
)
_PENDING = text("state = 'pending'")
Index(
    "ix_deliveries_due",
    deliveries.c.receiver,
    deliveries.c.run_at,
    postgresql_where=_PENDING,
    sqlite_where=_PENDING,
)
_LEASED = text("lease_until IS NOT NULL")
Index("ix_deliveries_leased", deliveries.c.lease_until, postgresql_where=_LEASED, sqlite_where=_LEASED)
Index("ix_deliveries_client", deliveries.c.client_id, deliveries.c.job_id)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("job_id", ForeignKey("deliveries.job_id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started_at", Instant, nullable=False),
    Column("seconds", Float),  # null: it goes on, or its worker died
    Column("status", Integer),
    Column("error", String(300)),
)

receivers = Table(
    "receivers",
    metadata,
    Column("name", String(300), primary_key=True),  # deliveries.receiver; no row: it never answered
    Column("failures", Integer, nullable=False, server_default="0"),  # in a row
    Column("failing_since", Instant),
    Column("rests_until", Instant),
    Column("seen_at", Instant, nullable=False),
    CheckConstraint("(failures = 0) = (failing_since IS NULL)", name="failing"),
)

# What all processes have counted together; see counts.py.
counts = Table(
    "counts",
    metadata,
    Column("series", String(60), primary_key=True),
    Column("labels", String(400), primary_key=True),  # JSON list of their values
    Column("value", Float, nullable=False),
)

stewards = Table(
    "stewards",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("seen_until", Instant, nullable=False),
)

# How many final jobs are kept, counted by a steward once a minute.
final_jobs = Table(
    "final_jobs",
    metadata,
    Column("state", String(10), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("counted_at", Instant, nullable=False),
)
