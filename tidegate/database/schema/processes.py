"""Tables of live workers, how many are wanted, schedulers, and counters that all processes add to."""

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

# How many workers of a queue are wanted; see tidegate/dispatch/scale.py.
wanted_workers = Table(
    "wanted_workers",
    metadata,
    Column("queue", String(100), primary_key=True),
    Column("places_each", Integer),  # of a worker, as last seen; null: none was ever seen
    Column("asked", Text, nullable=False),  # JSON list of [instant, workers, why]: those of the last minute that count
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
