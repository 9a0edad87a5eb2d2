"""Tables of webhooks: signing secrets, deliveries, their attempts, and receivers."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    text,
)

from tidegate.database.schema.metadata import metadata
from tidegate.database.time import Instant

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
