"""Statements of the API on deliveries: read, list, record, send again by hand."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, insert, select, update

from tidegate.database.connection import Database
from tidegate.database.schema import deliveries, delivery_attempts
from tidegate.database.time import database_now
from tidegate.jobs.listing import LIMIT
from tidegate.webhooks.delivery import Delivery, DeliveryAttempt, DeliveryFilter, DeliveryState, Webhook, receiver_of
from tidegate.webhooks.url import parse

_ENDED = (DeliveryState.DELIVERED, DeliveryState.FAILED)


class DeliveryStore:
    """Statements of the API on deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: str, client_id: str | None) -> Delivery | None:
        """The delivery of this job with its attempts; None: there is none, or it is another client's."""
        mine = () if client_id is None else (deliveries.c.client_id == client_id,)
        rows = self._database.fetch_all(_SELECT.where(deliveries.c.job_id == job_id, *mine))
        found = _with_attempts(rows, self._database.fetch_all)
        return found[0] if found else None

    def list(self, wanted: DeliveryFilter) -> list[Delivery]:
        """A page of deliveries, newest job first. Raises DatabaseTooSlowError."""
        page = _SELECT.where(*_conditions(wanted)).order_by(deliveries.c.job_id.desc()).limit(wanted.limit)
        fetch_all = partial(self._database.fetch_all, limit=LIMIT)
        return _with_attempts(fetch_all(page), fetch_all)

    def send_again(self, wanted: DeliveryFilter) -> int:
        """Makes deliveries due now, for a new day of tries, whatever became of them; returns how many.

        One whose job has not ended, or that is being sent at this moment, stays as it is.
        """
        found = select(deliveries.c.job_id).where(*_conditions(wanted), *_CAN_BE_SENT)
        with self._database.transaction() as connection:
            ids = list(connection.execute(found.order_by(deliveries.c.job_id).limit(wanted.limit)).scalars())
            return _send_again(connection, ids)

    def send_one_again(self, job_id: str) -> bool:
        """As `send_again`, for one delivery; False: it stays as it is."""
        with self._database.transaction() as connection:
            return _send_again(connection, [job_id]) == 1


def record_webhooks(connection: Connection, webhooks: Mapping[tuple[str, str], Webhook]) -> None:
    """Inserts the deliveries of new jobs, whose webhooks are given by (job id, client id)."""
    connection.execute(
        insert(deliveries),
        [
            {
                "job_id": job_id,
                "client_id": client_id,
                "url": webhook.url,
                "base_url": webhook.base_url,
                "receiver": receiver_of(client_id, parse(webhook.url).host),
            }
            for (job_id, client_id), webhook in webhooks.items()
        ],
    )


_SELECT = select(deliveries, (deliveries.c.lease_until > database_now()).label("is_sending"))
_CAN_BE_SENT = (
    deliveries.c.state != DeliveryState.WAITING,
    deliveries.c.lease_until.is_(None) | (deliveries.c.lease_until <= database_now()),
)


def _send_again(connection: Connection, ids: Iterable[str]) -> int:
    now = connection.execute(select(database_now())).scalar_one()
    return connection.execute(
        update(deliveries)
        .where(deliveries.c.job_id.in_(list(ids)), *_CAN_BE_SENT)
        .values(state=DeliveryState.PENDING, began_at=now, run_at=now, ended_at=None, lease_until=None, tries=0)
    ).rowcount


def _conditions(wanted: DeliveryFilter) -> list[ColumnElement[bool]]:
    columns = deliveries.c
    conditions: list[ColumnElement[bool]] = []
    if wanted.client_id is not None:
        conditions.append(columns.client_id == wanted.client_id)
    if wanted.state is not None:
        conditions.append(columns.state == wanted.state)
    if wanted.event is not None:
        conditions.append(columns.event == wanted.event)
    if wanted.created_after is not None:
        conditions.append(columns.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(columns.created_at < wanted.created_before)
    if wanted.before_id is not None:
        conditions.append(columns.job_id < wanted.before_id)
    return conditions


def _with_attempts(rows: Sequence[Row[Any]], fetch_all: Callable[[Select[Any]], Sequence[Row[Any]]]) -> list[Delivery]:
    attempts: defaultdict[str, list[DeliveryAttempt]] = defaultdict(list)
    if rows:
        theirs = delivery_attempts.c.job_id.in_([row.job_id for row in rows])
        made = select(delivery_attempts).where(theirs).order_by(delivery_attempts.c.number)
        for each in fetch_all(made):
            attempts[each.job_id].append(
                DeliveryAttempt(
                    number=each.number,
                    started_at=each.started_at,
                    seconds=each.seconds,
                    status=each.status,
                    error=each.error,
                )
            )
    return [
        Delivery(
            job_id=row.job_id,
            client_id=row.client_id,
            url=row.url,
            base_url=row.base_url,
            state=DeliveryState(row.state),
            event=row.event,
            created_at=row.created_at,
            run_at=row.run_at,
            ended_at=row.ended_at,
            is_sending=bool(row.is_sending),
            attempts=tuple(attempts[row.job_id]),
        )
        for row in rows
    ]
