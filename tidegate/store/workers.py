"""What a worker does to the job in its hands. Every write carries the fence of its claim."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Connection, and_, case, func, insert, or_, select, true, type_coerce, update

from tidegate import clock
from tidegate.database import Database, Instant, database_now
from tidegate.job import Claim, Wait
from tidegate.models import attempts, bodies, downstreams, jobs
from tidegate.operations import Body, Progress
from tidegate.outcomes import Succeeded
from tidegate.states import State
from tidegate.store.moves import (
    IN_TIME,
    NOW,
    come_back,
    ended,
    error_text,
    forget_attempts,
    is_mine,
    is_released,
    take_back_release,
)

# A call may end this much after its attempt's timeout before its place is given away.
PLACE_MARGIN = timedelta(seconds=2)
# How long an open breaker rests, in seconds: so much longer after each failed probe.
_BREAKER_STEP = 5
_BREAKER_LONGEST = 60


class WorkerStore:
    """Statements of the runner and of the heartbeat."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(
        self,
        job_id: str,
        fence: int,
        *,
        worker: str,
        pid: int,
        lease: timedelta,
        attempt_timeouts: Mapping[str, timedelta],
    ) -> Claim | None:
        """Takes a released job; None when this release no longer stands, and then its place is free again.

        Of several messages of one release the first wins. A job that was cancelled, expired, taken back by the
        sweep, or whose lane is paused is not handed out. The place is held for the attempt timeout + 2 s from the
        slot, or from the claim if that is later.
        """
        lane = select(downstreams).where(downstreams.c.name == jobs.c.downstream)
        is_paused = lane.where(
            or_(downstreams.c.paused, func.coalesce(type_coerce(downstreams.c.paused_until, BigInteger), 0) > NOW)
        ).exists()
        with self._database.writing() as connection:
            row = connection.execute(
                update(jobs)
                .where(
                    is_released(job_id, fence),
                    ~jobs.c.cancel_requested,
                    IN_TIME,
                    ~is_paused,
                )
                .values(
                    state=State.RUNNING,
                    version=jobs.c.version + 1,
                    attempt=jobs.c.attempt + 1,
                    started_at=func.coalesce(jobs.c.started_at, database_now()),
                    lease_until=database_now(lease),
                    waits_for=None,
                    done=None,
                    total=None,
                    note=None,
                )
                .returning(
                    *(
                        jobs.c[name]
                        for name in ("operation", "downstream", "attempt", "max_attempts", "losses", "slot_at")
                    ),
                    (type_coerce(jobs.c.slot_at, BigInteger) - NOW).label("wait"),
                    (type_coerce(jobs.c.deadline, BigInteger) - NOW).label("left"),
                    lane.with_only_columns(downstreams.c.rates != "[]").scalar_subquery().label("is_paced"),
                    lane.with_only_columns(downstreams.c.refusals).scalar_subquery().label("refusals"),
                    lane.with_only_columns(downstreams.c.failures).scalar_subquery().label("failures"),
                    jobs.c.paced_by_calls,
                    jobs.c.traceparent,
                )
            ).one_or_none()
            if row is None:
                take_back_release(connection, job_id, fence, outcome="dropped")
                return None
            # Read between the statement and the commit, which may take long: the nearest to the database's clock.
            at = clock.monotonic()
            # A message may have waited for its worker beyond its slot: its call begins now and not then.
            begins_at = row.slot_at + timedelta(microseconds=max(0, -row.wait))
            ends_at = begins_at + attempt_timeouts.get(row.operation, timedelta(0))
            connection.execute(
                update(attempts)
                .where(attempts.c.job_id == job_id, attempts.c.fence == fence)
                .values(
                    claimed_at=database_now(),
                    worker=worker,
                    worker_pid=pid,
                    ends_at=ends_at,
                    place_until=ends_at + PLACE_MARGIN,
                )
            )
        return Claim(
            job_id=job_id,
            fence=fence,
            operation=row.operation,
            downstream=row.downstream,
            attempt=row.attempt,
            max_attempts=row.max_attempts,
            losses=row.losses,
            is_paced=bool(row.is_paced) and not row.paced_by_calls,
            refusals=row.refusals or 0,
            failures=row.failures or 0,
            traceparent=row.traceparent,
            slot_due=at + row.wait / 1e6,
            deadline_due=at + row.left / 1e6,
        )

    def disclaim(self, job_id: str, fence: int, *, worker: str) -> bool:
        """Hands back a claim whose answer never came, if it was committed; whether it was."""
        own = and_(
            attempts.c.job_id == job_id,
            attempts.c.fence == fence,
            attempts.c.worker == worker,
            attempts.c.ended_at.is_(None),
        )
        runs = and_(jobs.c.id == job_id, jobs.c.fence == fence, jobs.c.state == State.RUNNING)
        values = {**come_back(spent=False, after=timedelta(0), waits_for=None), "attempt": jobs.c.attempt - 1}
        with self._database.writing() as connection:
            connection.execute(update(jobs).where(runs, select(attempts.c.job_id).where(own).exists()).values(**values))
            ended = connection.execute(
                update(attempts).where(own).values(ended_at=database_now(), outcome="handed back")
            )
        return ended.rowcount == 1

    def input_of(self, job_id: str) -> Body | None:
        """What the caller sent; None when the job was erased meanwhile."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(bodies.c.content, bodies.c.content_type).where(
                    bodies.c.job_id == job_id, bodies.c.kind == "input"
                )
            ).one_or_none()
        return Body(content=row.content, content_type=row.content_type) if row else None

    def progress(self, claim: Claim, progress: Progress, *, lease: timedelta) -> bool:
        """Writes how far the attempt is and renews its lease. False: it no longer counts and must stop."""
        with self._database.single_write() as connection:
            result = connection.execute(
                update(jobs)
                .where(is_mine(claim), IN_TIME, ~jobs.c.cancel_requested)
                .values(
                    percent=case((jobs.c.percent < progress.percent, progress.percent), else_=jobs.c.percent),
                    done=progress.done,
                    total=progress.total,
                    note=progress.note,
                    version=jobs.c.version + 1,
                    lease_until=database_now(lease),
                )
            )
        return result.rowcount == 1

    def succeed(self, claim: Claim, result: Succeeded, *, call_seconds: float | None) -> bool:
        """Records the result, unless another won: the deadline, a newer claim. False: the result was dropped."""
        values = {**ended(State.SUCCEEDED), "percent": 100, "error": None}
        with self._database.writing() as connection:
            won = connection.execute(update(jobs).where(is_mine(claim), IN_TIME).values(**values)).rowcount == 1
            if won:
                connection.execute(
                    insert(bodies).values(
                        job_id=claim.job_id,
                        kind="result",
                        content_type=result.content_type,
                        is_json=result.is_json,
                        content=result.content,
                    )
                )
                _lane_answered(connection, claim)
            return _end_attempt(connection, claim, "succeeded", call_seconds, won=won)

    def fail(self, claim: Claim, error: Mapping[str, Any], *, call_seconds: float | None) -> bool:
        """Records the final error, unless another won. False: it was dropped."""
        values = {**ended(State.FAILED), "error": error_text(error)}
        with self._database.writing() as connection:
            won = connection.execute(update(jobs).where(is_mine(claim), IN_TIME).values(**values)).rowcount == 1
            _lane_answered(connection, claim)
            return _end_attempt(connection, claim, "failed", call_seconds, won=won)

    def try_again(
        self,
        claim: Claim,
        error: Mapping[str, Any],
        *,
        after: timedelta,
        is_spent: bool,
        blames_downstream: bool,
        call_seconds: float | None,
    ) -> bool:
        """Records a failed attempt; the order of fate decides what becomes of the job. False: it was not ours."""
        values = come_back(spent=is_spent, after=after, waits_for=Wait.RETRY)
        with self._database.writing() as connection:
            won = _moved(connection, claim, **values, error=error_text(error))
            if blames_downstream:
                _lane_failed(connection, claim)
            else:
                _lane_answered(connection, claim)
            return _end_attempt(connection, claim, "error", call_seconds, won=won)

    def hand_back(self, claim: Claim, *, after: timedelta, outcome: str) -> bool:
        """Gives the job back as if this attempt had never been. False: it was not ours any more."""
        values = come_back(spent=False, after=after, waits_for=None)
        with self._database.writing() as connection:
            won = _moved(connection, claim, **values, attempt=jobs.c.attempt - 1)
            return _end_attempt(connection, claim, outcome, None, won=won)

    def refused(self, claim: Claim, error: Mapping[str, Any], *, after: timedelta, call_seconds: float | None) -> bool:
        """The downstream had no capacity: its lane rests for the whole cluster, once; the attempt is given back."""
        values = come_back(spent=False, after=after, waits_for=None)
        with self._database.writing() as connection:
            won = _moved(connection, claim, **values, attempt=jobs.c.attempt - 1, error=error_text(error))
            until = database_now(after)
            rests = downstreams.c.paused_until > database_now()
            connection.execute(
                update(downstreams)
                .where(downstreams.c.name == claim.downstream)
                .values(
                    # The calls that were open at the first refusal are refused too: that is one pause, not many.
                    refusals=case((rests, downstreams.c.refusals), else_=downstreams.c.refusals + 1),
                    paused_until=case(
                        (and_(rests, downstreams.c.paused_until > until), downstreams.c.paused_until), else_=until
                    ),
                )
            )
            return _end_attempt(connection, claim, "refused", call_seconds, won=won)


def _moved(connection: Connection, claim: Claim, **values: Any) -> bool:
    return connection.execute(update(jobs).where(is_mine(claim)).values(**values)).rowcount == 1


def _end_attempt(connection: Connection, claim: Claim, outcome: str, call_seconds: float | None, *, won: bool) -> bool:
    """Says how the attempt ended and frees its place; whether that outcome stands.

    An answer that was lost on its way back makes a worker offer its outcome again: then it stands already.
    """
    own = and_(attempts.c.job_id == claim.job_id, attempts.c.fence == claim.fence)
    if not won and connection.execute(select(attempts.c.outcome).where(own)).scalar_one_or_none() == outcome:
        return True
    started = {} if call_seconds is None else {"call_started_at": database_now(-timedelta(seconds=call_seconds))}
    connection.execute(
        update(attempts).where(own).values(ended_at=database_now(), outcome=outcome if won else "late", **started)
    )
    if not won:
        forget_attempts(connection, [claim.job_id])
    return won


def _lane_answered(connection: Connection, claim: Claim) -> None:
    """Ends a run of refusals and failures. The claim saw whether there is one: the usual call writes nothing here."""
    if claim.lane_is_troubled:
        connection.execute(
            update(downstreams).where(downstreams.c.name == claim.downstream).values(refusals=0, failures=0)
        )


def _lane_failed(connection: Connection, claim: Claim) -> None:
    """One more failure in a row; at `breaker_after` the lane rests, each failed probe makes it rest longer."""
    rests = downstreams.c.paused_until > database_now()
    failures = case((rests, downstreams.c.failures), else_=downstreams.c.failures + 1)
    probes = failures - downstreams.c.breaker_after + 1
    seconds = case((probes * _BREAKER_STEP > _BREAKER_LONGEST, _BREAKER_LONGEST), else_=probes * _BREAKER_STEP)
    opens = and_(downstreams.c.breaker_after > 0, probes >= 1, func.coalesce(~rests, true()))
    connection.execute(
        update(downstreams)
        .where(downstreams.c.name == claim.downstream)
        .values(
            failures=failures,
            paused_until=case(
                (opens, type_coerce(NOW + seconds * 1_000_000, Instant())), else_=downstreams.c.paused_until
            ),
        )
    )
