"""Tables of jobs, their bodies, attempts and idempotency keys, with their indexes.

`jobs` rows are small and hot; what callers send and get lies in `bodies`. An `attempts` row is made at the
release of a job and is the *place* that it holds at its downstream until the call has ended.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    Uuid,
    false,
    text,
)

from tidegate.database.schema.metadata import metadata
from tidegate.database.time import Instant
from tidegate.states import FINAL_STATES, State

_FINAL = ", ".join(sorted(f"'{state}'" for state in FINAL_STATES))

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
    Column("waits_for", String(12)),  # why run_at lies ahead; of an expired job, why it had not begun
    Column("lease_until", Instant),
    Column("cancel_requested", Boolean, nullable=False, server_default=false()),
    Column("percent", Integer, nullable=False, server_default="0"),
    Column("done", BigInteger),
    Column("total", BigInteger),
    Column("note", String(200)),
    Column("error", Text),  # JSON object
    Column("traceparent", String(55)),
    Column("retry_of", Uuid(as_uuid=False)),
    # Of a downstream whose calls are shared by partitions: "<client>/<name>", and the order within it.
    Column("partition", String(105)),
    Column("priority", Integer, nullable=False, server_default="3"),
    Column("rank_at", Instant),  # moves with run_at, unless the partition keeps the order of submit
    Column("keeps_rank", Boolean, nullable=False, server_default=false()),
    Column("poll_url", Text),  # its downstream has accepted the work; its calls ask here how far it is
    # With it: the attempt whose place is kept until the job has ended. A trigger frees it in the same transaction.
    Column("place_fence", Integer),
    # Of a job that goes with others in one call: "<batch's id>/<index>/<size>". While it is queued: that it goes again
    # with the others of the batch, and no more.
    Column("batch", String(50)),
    # A trigger makes its row in `deliveries` due, in the same transaction that ends the job.
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
_SHARED = text("state = 'queued' AND slot_at IS NULL AND partition IS NOT NULL")
Index(
    "ix_jobs_partition",
    jobs.c.downstream,
    jobs.c.partition,
    jobs.c.rank_at,
    jobs.c.id,
    postgresql_where=_SHARED,
    sqlite_where=_SHARED,
)
# Spelt so that no plan finds jobs to poll by the index of all that wait. Who runs has a slot.
WAITS_FOR_POLL = "place_fence IS NOT NULL AND slot_at IS NULL AND finished_at IS NULL"
"""Condition of a partial index: queued, not released, and its downstream has accepted the work."""
_POLLS = text(WAITS_FOR_POLL)
Index("ix_jobs_polls", jobs.c.downstream, jobs.c.run_at, jobs.c.id, postgresql_where=_POLLS, sqlite_where=_POLLS)
# The conditions of these two are spelt as only the sweep and the live page ask. With "state = 'running'" PostgreSQL
# would use them to find a job by its id, whenever its statistics are of a time when nothing ran.
_OPEN = text("finished_at IS NULL")
Index("ix_jobs_deadline", jobs.c.deadline, postgresql_where=_OPEN, sqlite_where=_OPEN)
_RUNNING = text("lease_until IS NOT NULL")
Index("ix_jobs_lease", jobs.c.lease_until, postgresql_where=_RUNNING, sqlite_where=_RUNNING)
Index("ix_jobs_client", jobs.c.client_id, jobs.c.id)
_FINISHED = text("finished_at IS NOT NULL")
Index("ix_jobs_finished", jobs.c.finished_at, postgresql_where=_FINISHED, sqlite_where=_FINISHED)
UNSUCCESSFUL = "state IN ('cancelled', 'expired', 'failed')"
"""Condition of two partial indexes, for lists of these states: where nearly all jobs succeeded, a list by id reads too
many rows to find the few others. Both indexes are small, and a job that succeeds is never in them."""
Index(
    "ix_jobs_unsuccessful",
    jobs.c.state,
    jobs.c.id,
    postgresql_where=text(UNSUCCESSFUL),
    sqlite_where=text(UNSUCCESSFUL),
)
Index(
    "ix_jobs_unsuccessful_client",
    jobs.c.client_id,
    jobs.c.state,
    jobs.c.id,
    postgresql_where=text(UNSUCCESSFUL),
    sqlite_where=text(UNSUCCESSFUL),
)
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
    Column("headers", Text),  # JSON object: those of the submit that go along to the downstream; null: none
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
    Column("worker", String(40)),  # null of a claimed one: the place is kept while its job is polled
    Column("worker_pid", Integer),
    Column("call_started_at", Instant),
    Column("ends_at", Instant),  # its timeout
    Column("place_until", Instant, nullable=False),
    Column("ended_at", Instant),  # the place is free from here on
    Column("outcome", String(20)),
    # The attempt on whose place it waits for its turn; once that has ended, the place is its own.
    Column("follows_job", Uuid(as_uuid=False)),
    Column("follows_fence", Integer),
    Column("partition", String(105)),
    Column("turn", BigInteger),  # of its downstream: the order in which the gate chose
    # Many jobs in one call. All but the first one follow that, and have neither a place nor a message of their own.
    Column("batch_id", Uuid(as_uuid=False)),
)
_FOLLOWS = text("follows_job IS NOT NULL")
Index("ix_attempts_follows", attempts.c.follows_job, postgresql_where=_FOLLOWS, sqlite_where=_FOLLOWS)
WAS_REFUSED = "outcome = 'refused'"
"""Condition of a partial index, which nothing but a refusal writes."""
Index("ix_attempts_refused", attempts.c.ended_at, postgresql_where=text(WAS_REFUSED), sqlite_where=text(WAS_REFUSED))
_HELD = text("ended_at IS NULL")
Index("ix_attempts_held", attempts.c.place_until, postgresql_where=_HELD, sqlite_where=_HELD)
