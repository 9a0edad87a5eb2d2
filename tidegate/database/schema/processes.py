"""Tables of live workers and schedulers, and of counters that all processes add to."""

from sqlalchemy import BigInteger, Column, Float, Integer, String, Table, Text

from tidegate.database.schema.metadata import metadata
from tidegate.database.time import Instant

workers = Table(
    "workers",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("queue", String(20), nullable=False),
    Column("size", Integer, nullable=False),  # attempts that it runs side by side
    # Microseconds that it may be wrong about the database's clock.
    Column("clock_error", Integer, nullable=False, server_default="0"),
    Column("seen_until", Instant, nullable=False),
    Column("operations", Text),  # JSON list of names; null: it does not say
)

stewards = Table(
    "stewards",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("seen_until", Instant, nullable=False),
)

# Counters summed over all processes; see tidegate/metrics/store.py.
counts = Table(
    "counts",
    metadata,
    Column("series", String(60), primary_key=True),
    Column("labels", String(400), primary_key=True),  # JSON list of their values
    Column("value", Float, nullable=False),
)

# How many final jobs are kept, counted by a scheduler once a minute.
final_jobs = Table(
    "final_jobs",
    metadata,
    Column("state", String(10), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("counted_at", Instant, nullable=False),
)
