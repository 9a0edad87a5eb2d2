"""The Celery app of hand-written jobs and of bare Celery: `celery -A benchmarks.yardsticks.worker worker`."""

import os
from datetime import UTC, datetime
from functools import cache

import httpcore2
from celery import Celery
from sqlalchemy import Engine, update

from benchmarks.yardsticks.rows import BROKER, DOWNSTREAM, engine_from_environment, requests

QUEUE = "yardstick"

_broker = os.environ.get(BROKER)
app = Celery("yardstick", broker=_broker, backend=_broker)
app.conf.update(task_default_queue=QUEUE)


@app.task(ignore_result=True)
def nothing() -> None:
    """A no-op."""


@app.task(ignore_result=True)
def work(request_id: str) -> None:
    """A no-op whose state is kept in its row, as one writes it by hand."""
    with _engine().begin() as connection:
        connection.execute(update(requests).where(requests.c.id == request_id).values(state="running"))
    with _engine().begin() as connection:
        connection.execute(
            update(requests)
            .where(requests.c.id == request_id)
            .values(state="succeeded", result=b"null", finished_at=datetime.now(UTC))
        )


@app.task
def call() -> str:
    """The call of an HTTP operation, over connections that stay open, without anything around it."""
    return _connections().request("POST", os.environ[DOWNSTREAM], content=b"{}").content.decode()


@cache
def _engine() -> Engine:
    return engine_from_environment()


@cache
def _connections() -> httpcore2.ConnectionPool:
    return httpcore2.ConnectionPool(max_connections=None, max_keepalive_connections=100, keepalive_expiry=15)
