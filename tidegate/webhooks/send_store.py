"""Statements of sending webhooks: the scheduler releases a delivery, a worker claims it and records the outcome.

A fence of the delivery's own guards each write.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, and_, func, insert, literal_column, select, type_coerce, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate.database.connection import Database
from tidegate.database.schema import bodies, deliveries, delivery_attempts, jobs, receivers, workers
from tidegate.database.statement import Prepared, required
from tidegate.database.time import database_now
from tidegate.jobs.job import Job, StoredBody
from tidegate.jobs.transitions import JOB_COLUMNS, NOW, job_from
from tidegate.metrics.counters import Counts
from tidegate.metrics.families import DELIVERIES_FAILED, DELIVERY_ATTEMPTS, DELIVERY_SECONDS
from tidegate.operations.queues import WEBHOOKS
from tidegate.webhooks.delivery import (
    GIVE_UP_AFTER,
    DeliveryClaim,
    DeliveryState,
    ReleasedDelivery,
    Sent,
)
from tidegate.webhooks.receivers import Receiver, SenderTurns

CLAIM_WITHIN = timedelta(seconds=10)
ERROR_LENGTH = 300
_MOST_ATTEMPTS_KEPT = 100
_FORGET_RECEIVERS_AFTER = timedelta(days=30)
# A delivery that takes its process with it is not tried for ever.
_MOST_TRIES = 50
# Any constant will do; it is the same in every scheduler.
_ADVISORY_LOCK = 0x7469646564656C69
_UNKNOWN_END = "the worker died or stood still: not known whether it was sent"

# A literal: with a bound parameter SQLite does not see that a partial index fits.
IS_PENDING = deliveries.c.state == literal_column("'pending'")
_IS_DUE = (IS_PENDING, deliveries.c.run_at <= database_now())
_DONE = {"run_at": None, "lease_until": None, "ended_at": database_now()}


class _Due(NamedTuple):
    """A receiver with a delivery due since `due_at`, in microseconds; `failures` None: it has no row yet."""

    name: str
    due_at: int
    failures: int | None


class SendingStore:
    """Statements of the courier, which releases deliveries, and of the workers that send them."""

    def __init__(self, database: Database, counts: Counts) -> None:
        self._database = database
        self._counts = counts
        self._turns = SenderTurns()

    def release(self) -> list[ReleasedDelivery]:
        """Releases the deliveries that may be sent now; one that is not claimed within 10 s is due again."""
        if not self._database.fetch_all(_DUE):
            return []
        with self._database.transaction() as connection:
            # An advisory lock, one scheduler at a time: two would each give away the same places.
            if not self._database.is_sqlite and not _lock(connection):
                return []
            due = self._database.fetch_all(_DUE, within=connection)
            known = _receivers(connection, due)
            chosen = self._turns.choose(known, places=_places(connection))
            released = {receiver: self._release(connection, receiver, most) for receiver, most in chosen.items()}
        self._turns.released({receiver: len(each) for receiver, each in released.items()})
        self._turns.forget({each.name for each in known})
        return [delivery for each in released.values() for delivery in each]

    def _release(self, connection: Connection, receiver: str, most: int) -> list[ReleasedDelivery]:
        first = select(deliveries.c.job_id).where(deliveries.c.receiver == receiver, *_IS_DUE)
        ids = list(connection.execute(first.order_by(deliveries.c.run_at).limit(most)).scalars())
        rows = connection.execute(
            update(deliveries)
            .where(deliveries.c.job_id.in_(ids), *_IS_DUE)
            .values(fence=deliveries.c.fence + 1, **_leased(CLAIM_WITHIN))
            .returning(deliveries.c.job_id, deliveries.c.fence)
        )
        return [ReleasedDelivery(job_id=row.job_id, fence=row.fence) for row in rows]

    def take_back(self, released: Sequence[ReleasedDelivery]) -> None:
        """Makes deliveries whose messages were surely not sent to the broker due again at once."""
        with self._database.transaction() as connection:
            for each in released:
                connection.execute(
                    update(deliveries)
                    .where(_is(each.job_id, each.fence))
                    .values(run_at=database_now(), lease_until=None)
                )

    def claim(self, job_id: str, fence: int, *, lease: timedelta) -> DeliveryClaim | None:
        """Claims a released delivery; of several messages of one release the first wins. None: it no longer stands."""
        failures = select(receivers.c.failures).where(receivers.c.name == deliveries.c.receiver).scalar_subquery()
        began_at = type_coerce(deliveries.c.began_at, BigInteger)
        with self._database.transaction() as connection:
            row = connection.execute(
                update(deliveries)
                .where(_is(job_id, fence), deliveries.c.lease_until.is_not(None))
                .values(
                    fence=deliveries.c.fence + 1,
                    tries=deliveries.c.tries + 1,
                    attempt=deliveries.c.attempt + 1,
                    **_leased(lease),
                )
                .returning(deliveries, failures.label("failures"), (NOW - began_at).label("age"))
            ).one_or_none()
            if row is None:
                return None
            if row.attempt > 1:
                _close_earlier(connection, job_id, row.attempt)
            connection.execute(
                insert(delivery_attempts).values(job_id=job_id, number=row.attempt, started_at=database_now())
            )
        return DeliveryClaim(
            job_id=row.job_id,
            fence=row.fence,
            client_id=row.client_id,
            url=row.url,
            base_url=row.base_url,
            receiver=row.receiver,
            event=row.event,
            created_at=row.created_at,
            number=row.attempt,
            tries=row.tries,
            left=GIVE_UP_AFTER - timedelta(microseconds=row.age),
            receiver_failures=row.failures,
        )

    def read_ended_job(self, job_id: str, *, largest: int) -> tuple[Job, StoredBody | None] | None:
        """Reads the job and its result for the webhook's body; a larger content is left out. None: it was erased."""
        row = self._database.fetch_one(select(*JOB_COLUMNS).where(jobs.c.id == job_id))
        if row is None:
            return None
        is_result = and_(bodies.c.job_id == job_id, bodies.c.kind == "result")
        fits = (func.length(bodies.c.content) <= largest).label("fits")
        found = self._database.fetch_one(select(bodies.c.content_type, bodies.c.is_json, fits).where(is_result))
        if found is None:
            return job_from(row), None
        content = b""
        if found.is_json and found.fits:
            content = required(self._database.fetch_one(select(bodies.c.content).where(is_result))).content
        result = StoredBody(content=content, content_type=found.content_type, is_json=found.is_json)
        return job_from(row), result

    def record(
        self, claim: DeliveryClaim, sent: Sent, *, again_after: timedelta | None, rest: timedelta | None
    ) -> bool:
        """Records the outcome of an attempt. False: the claim no longer stands; the attempt is recorded all the same.

        `again_after` None: this was the last. `rest`: nothing goes to its receiver for so long.
        """
        if sent.is_delivered:
            values: dict[str, Any] = {"state": DeliveryState.DELIVERED, **_DONE}
        elif again_after is None:
            values = {"state": DeliveryState.FAILED, **_DONE}
        else:
            values = {"run_at": database_now(again_after), "lease_until": None}
        with self._database.transaction() as connection:
            won = connection.execute(update(deliveries).where(_is(claim.job_id, claim.fence)).values(**values)).rowcount
            error = sent.error[:ERROR_LENGTH] if sent.error else None
            connection.execute(
                update(delivery_attempts)
                .where(delivery_attempts.c.job_id == claim.job_id, delivery_attempts.c.number == claim.number)
                .values(seconds=sent.seconds, status=sent.status, error=error)
            )
            if sent.was_sent:
                self._judge_receiver(connection, claim, rest=rest, is_good=sent.is_prompt)
        self._counts.add(DELIVERY_ATTEMPTS, sent.outcome)
        if sent.was_sent:
            self._counts.observe(DELIVERY_SECONDS, sent.seconds)
        if won and not sent.is_delivered and again_after is None:
            self._counts.add(DELIVERIES_FAILED)
        return won == 1

    def give_up(self, most: int) -> int:
        """Fails due deliveries that are over a day old, if their receiver is silent or they were tried too often.

        Returns how many.
        """
        day_ago = database_now(-GIVE_UP_AFTER)
        silent = select(receivers.c.name).where(receivers.c.failing_since <= day_ago)
        found = (
            select(deliveries.c.job_id)
            .where(*_IS_DUE, deliveries.c.began_at <= day_ago)
            .where(deliveries.c.receiver.in_(silent) | (deliveries.c.tries >= _MOST_TRIES))
            .limit(most)
        )
        with self._database.transaction() as connection:
            ids = list(connection.execute(found).scalars())
            ended = update(deliveries).where(deliveries.c.job_id.in_(ids), *_IS_DUE)
            count = connection.execute(ended.values(state=DeliveryState.FAILED, **_DONE)).rowcount
            connection.execute(receivers.delete().where(receivers.c.seen_at <= database_now(-_FORGET_RECEIVERS_AFTER)))
        self._counts.add(DELIVERIES_FAILED, by=count)
        return count

    def _judge_receiver(
        self, connection: Connection, claim: DeliveryClaim, *, rest: timedelta | None, is_good: bool
    ) -> None:
        """Updates the receiver's row; a good receiver that stays good costs no statement."""
        if is_good and claim.receiver_failures == 0:
            return
        insert_ = sqlite_insert if self._database.is_sqlite else postgresql_insert
        until = database_now(rest) if rest else None
        if is_good:
            first = {"failures": 0, "failing_since": None, "rests_until": until}
            then: dict[str, Any] = first
        else:
            first = {"failures": 1, "failing_since": database_now(), "rests_until": until}
            since = func.coalesce(receivers.c.failing_since, database_now())
            then = {"failures": receivers.c.failures + 1, "failing_since": since, "rests_until": until}
        statement = insert_(receivers).values(name=claim.receiver, seen_at=database_now(), **first)
        connection.execute(
            statement.on_conflict_do_update(index_elements=[receivers.c.name], set_={**then, "seen_at": database_now()})
        )


def _leased(lease: timedelta) -> dict[str, Any]:
    """Values of a delivery in flight: not due before the lease runs out, and then due by itself."""
    return {"run_at": database_now(lease), "lease_until": database_now(lease)}


def _is(job_id: str, fence: int) -> Any:
    return (deliveries.c.job_id == job_id) & (deliveries.c.fence == fence) & IS_PENDING


def _receivers(connection: Connection, those_with_due: Sequence[_Due]) -> list[Receiver]:
    """The receivers with something due or in flight."""
    due = {each.name: each for each in those_with_due}
    in_flight = {row.receiver: row for row in connection.execute(_IN_FLIGHT)}
    return [
        Receiver(
            name=name,
            due_at=due[name].due_at if name in due else None,
            in_flight=in_flight[name].number if name in in_flight else 0,
            is_good=(due[name] if name in due else in_flight[name]).failures == 0,
        )
        for name in due.keys() | in_flight.keys()
    ]


def _due() -> Any:
    """SELECT of the receivers with a delivery due: names by a loose index scan, then the first delivery of each."""
    names = select(func.min(deliveries.c.receiver).label("name")).where(IS_PENDING).cte("names", recursive=True)
    following = select(func.min(deliveries.c.receiver)).where(IS_PENDING, deliveries.c.receiver > names.c.name)
    names = names.union_all(select(following.scalar_subquery()).where(names.c.name.is_not(None)))
    first = select(func.min(type_coerce(deliveries.c.run_at, BigInteger))).where(
        IS_PENDING, deliveries.c.receiver == names.c.name
    )
    with_first = select(names.c.name, first.scalar_subquery().label("due_at"))
    listed = with_first.where(names.c.name.is_not(None)).cte("listed")
    rests_until = func.coalesce(type_coerce(receivers.c.rests_until, BigInteger), 0)
    return (
        select(listed.c.name, listed.c.due_at, receivers.c.failures)
        .select_from(listed.outerjoin(receivers, receivers.c.name == listed.c.name))
        .where(listed.c.due_at <= NOW, rests_until <= NOW)
    )


_DUE = Prepared(_due(), lambda row: _Due(**row))
_IN_FLIGHT = (
    select(deliveries.c.receiver, func.count().label("number"), receivers.c.failures)
    .outerjoin(receivers, receivers.c.name == deliveries.c.receiver)
    .where(deliveries.c.lease_until > database_now())
    .group_by(deliveries.c.receiver, receivers.c.failures)
)


def _lock(connection: Connection) -> bool:
    return bool(connection.execute(select(func.pg_try_advisory_xact_lock(_ADVISORY_LOCK))).scalar_one())


def _places(connection: Connection) -> int:
    """How many deliveries the live workers send side by side."""
    size = select(func.coalesce(func.sum(workers.c.size), 0)).where(
        workers.c.queue == WEBHOOKS, workers.c.seen_until > database_now()
    )
    return int(connection.execute(size).scalar_one())


def _close_earlier(connection: Connection, job_id: str, number: int) -> None:
    earlier = (delivery_attempts.c.job_id == job_id) & (delivery_attempts.c.number < number)
    is_open = delivery_attempts.c.seconds.is_(None) & delivery_attempts.c.error.is_(None)
    connection.execute(update(delivery_attempts).where(earlier, is_open).values(error=_UNKNOWN_END))
    if number > _MOST_ATTEMPTS_KEPT:
        connection.execute(
            delivery_attempts.delete().where(earlier, delivery_attempts.c.number <= number - _MOST_ATTEMPTS_KEPT)
        )
