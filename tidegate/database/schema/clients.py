"""Tables of API clients, their keys, and sessions of the live page."""

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, LargeBinary, String, Table, false

from tidegate.database.schema.metadata import metadata
from tidegate.database.time import Instant

IMPLICIT_CLIENT = "local"
"""Id of the one client there is while authentication is off."""

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
    # Whether the partitions that its submits name are shared with other clients, and not its client's own.
    Column("names_shared", Boolean, nullable=False, server_default=false()),
    CheckConstraint("role IN ('client', 'operator', 'metrics')", name="role"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("key_id", ForeignKey("keys.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("began_at", Instant, nullable=False),
    Column("ends_at", Instant, nullable=False, index=True),
)
