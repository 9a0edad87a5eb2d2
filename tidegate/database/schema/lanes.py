"""Tables of downstreams (limits, rate limiter's state, pauses) and of the last sample of each one's queue."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    false,
)

from tidegate.database.schema.metadata import metadata
from tidegate.database.time import Instant

downstreams = Table(
    "downstreams",
    metadata,
    Column("name", String(100), primary_key=True),
    # The limits in force: what the file declares, overlaid by what an operator changed.
    Column("rates", Text, nullable=False),  # JSON list of "50/s"; empty: no limit
    Column("burst", Integer, nullable=False),
    Column("concurrency", Integer),  # null: no limit
    Column("breaker_after", Integer, nullable=False),  # failures in a row; 0: no breaker
    Column("jitter", Integer, nullable=False, server_default="0"),  # microseconds that the way of a call varies by
    Column("declared", Text, nullable=False),  # JSON object: the file's values of these four
    Column("changes", Text, nullable=False, server_default="{}"),  # JSON object: the operator's
    Column("pace", Text, nullable=False),  # JSON of rate_limit.Pace: what the past calls leave free
    Column("released", BigInteger, nullable=False, server_default="0"),  # calls ever
    Column("companions", BigInteger, nullable=False, server_default="0"),  # jobs ever beyond one a call
    Column("paused", Boolean, nullable=False, server_default=false()),  # by an operator
    Column("paused_until", Instant),  # because the downstream asked for it
    Column(
        "refusals", Integer, nullable=False, server_default="0"
    ),  # pauses in a row, without any other answer between
    Column("failures", Integer, nullable=False, server_default="0"),  # in a row; at `breaker_after` the breaker is open
    Column("announced", Text),  # JSON of announced.Budgets: what the downstream itself says is left of its calls
    Column("sharing", Text),  # JSON of sharing.Sharing: how its calls are shared by partitions; null: they are not
    Column("shared_clock", String(40), nullable=False, server_default="0"),  # of the clients' turns
    Column("turns", BigInteger, nullable=False, server_default="0"),  # rises with each change of a turn
    CheckConstraint("burst >= 1", name="burst"),
    CheckConstraint("concurrency IS NULL OR concurrency >= 1", name="concurrency"),
)

partitions = Table(
    "partitions",
    metadata,
    Column("downstream", ForeignKey("downstreams.name", ondelete="CASCADE"), primary_key=True),
    Column("client", String(40), primary_key=True),  # empty: shared by all clients
    Column("name", String(64), primary_key=True),
    Column("turn", String(40), nullable=False, server_default="0"),  # fairness.Share: more than 64 bits
    Column("returned", Integer, nullable=False, server_default="0"),
    Column("weight", Float, nullable=False, server_default="1"),
    Column("changes", Text, nullable=False, server_default="{}"),  # JSON object: the operator's limits and weight
    Column("paused", Boolean, nullable=False, server_default=false()),
    Column("pace", Text, nullable=False, server_default="{}"),  # JSON of rate_limit.Pace: of its own rates
    # Of its own limits, as in force at its last release or change, for statements that can't work them out.
    Column("next_slot_at", Instant),  # when its own rates have room again; null: it has none
    Column("most_open", Integer),  # how many of its calls may be open at once; null: any number
    # Where the downstream refuses by partition (`throttle`): as in `downstreams`, of its calls alone.
    Column("rests_until", Instant),
    Column("refusals", Integer, nullable=False, server_default="0"),
    Column("announced", Text),
    Column("released", BigInteger, nullable=False, server_default="0"),  # jobs ever
    Column("changed", BigInteger, nullable=False, server_default="0"),  # the lane's `turns` as of its last change
    Index("ix_partitions_changed", "downstream", "changed"),
)

shared_clients = Table(
    "shared_clients",
    metadata,
    Column("downstream", ForeignKey("downstreams.name", ondelete="CASCADE"), primary_key=True),
    Column("client", String(40), primary_key=True),
    Column("turn", String(40), nullable=False, server_default="0"),  # fairness.Share: more than 64 bits
    Column("returned", Integer, nullable=False, server_default="0"),
    Column("weight", Float, nullable=False, server_default="1"),
    Column("clock", String(40), nullable=False, server_default="0"),  # of its partitions' turns
    Column("changed", BigInteger, nullable=False, server_default="0"),  # as in `partitions`
    Index("ix_shared_clients_changed", "downstream", "changed"),
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
    Column("released", BigInteger, nullable=False),  # downstreams.released then
    Column("companions", BigInteger, nullable=False, server_default="0"),  # likewise
    Column("per_second", Float, nullable=False),  # calls released, smoothed, while there was a backlog
    Column("held_mean", Float, nullable=False),  # places, smoothed likewise
    Column("fill", Float, nullable=False, server_default="0"),  # jobs in a call, smoothed likewise; 0: not known
)

partition_samples = Table(
    "partition_samples",
    metadata,
    Column("downstream", ForeignKey("downstreams.name", ondelete="CASCADE"), primary_key=True),
    # Of its partitions; "*": of the clients among themselves; "+": the busiest partitions of all.
    Column("client", String(40), primary_key=True),
    Column("taken_at", Instant, nullable=False),
    # JSON of crowd.Crowd: who shares, and how much would go before one of them; of the busiest of busiest.Busiest.
    Column("crowd", Text, nullable=False),
)
