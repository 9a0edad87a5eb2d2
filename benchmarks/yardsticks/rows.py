"""The one table of hand-written jobs, on a database that is as durable as ours."""

import os
import sqlite3
import uuid
from datetime import UTC, datetime

from sqlalchemy import Column, DateTime, Engine, LargeBinary, MetaData, String, Table, create_engine, event, make_url

DATABASE, BROKER, DOWNSTREAM = "YARDSTICK_DATABASE", "YARDSTICK_BROKER", "YARDSTICK_DOWNSTREAM"
metadata = MetaData()
requests = Table(
    "requests",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("state", String(10), nullable=False),
    Column("params", LargeBinary, nullable=False),
    Column("result", LargeBinary),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("finished_at", DateTime(timezone=True)),
)


def connect(url: str) -> Engine:
    """An engine with as many connections as ours."""
    engine = create_engine(url, pool_size=10, max_overflow=20)
    if make_url(url).get_backend_name() == "sqlite":

        @event.listens_for(engine, "connect")
        def prepare(connection: sqlite3.Connection, _record: object) -> None:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
                connection.execute(f"PRAGMA {pragma}")

    return engine


def engine_from_environment() -> Engine:
    """The engine of a yardstick's process."""
    return connect(os.environ[DATABASE])


def new_row(params: bytes) -> dict[str, object]:
    """What a submit records."""
    return {"id": str(uuid.uuid4()), "state": "queued", "params": params, "created_at": datetime.now(UTC)}
