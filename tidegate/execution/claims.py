"""The claim: moves released jobs to running and reads their inputs. On PostgreSQL one statement, else a transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import (
    Connection,
    and_,
    select,
    update,
)

from tidegate import clock, rate_limit
from tidegate.clock import MICROSECOND
from tidegate.database.batching import BatchedStatement
from tidegate.database.clock_sync import DatabaseClock
from tidegate.database.connection import Database
from tidegate.database.json_rows import MOST_ROWS, as_parameter, in_parts
from tidegate.database.schema import attempts, jobs
from tidegate.database.statement import Prepared
from tidegate.database.time import database_now
from tidegate.dispatch.undo_release import give_call_back, take_back_release
from tidegate.execution.attempt import late_seconds
from tidegate.execution.batch_lead import pass_lead
from tidegate.execution.claim_statements import INPUT_ALONE, TAKE_JOB_ALONE, TAKE_PLACE, Row, Timeouts, claim_statement
from tidegate.jobs.job import Call, Claim, input_of
from tidegate.jobs.own_partition import read_own
from tidegate.jobs.transitions import (
    HANDED_BACK,
    come_back,
    forget_attempts,
    wait_briefly,
)
from tidegate.operations.queues import Queue
from tidegate.states import State

_Values: TypeAlias = Mapping[str, Any]


class ClaimStore:
    """Statements by which a worker claims a released job; what it writes afterwards is in `outcome_store`."""

    def __init__(self, database: Database, database_clock: DatabaseClock) -> None:
        self._database = database
        self._clock = database_clock
        self._shared: dict[Timeouts, BatchedStatement[_Values, Row | None]] = {}

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
        """Claims a released job and reads its input; None when this release no longer stands, and its place is freed.

        Of several messages of one release the first wins. A job that was cancelled, expired, taken back by the
        sweep, or whose lane is paused is not handed out. The place is held for the attempt timeout + 2 s from the
        slot, or from the claim if that is later.
        """
        timeouts = {name: timeout // MICROSECOND for name, timeout in attempt_timeouts.items()}
        values = {"job": job_id, "fence": fence, "worker": worker, "pid": pid, "lease": lease // MICROSECOND}
        row = self._in_a_transaction(values, timeouts) if self._database.is_sqlite else self._at_once(values, timeouts)
        if row is None:
            with self._database.transaction() as connection:
                row = None if self._database.is_sqlite else self._waiting(connection, values, timeouts)
                if row is None:
                    take_back_release(self._database, connection, job_id, fence, outcome="dropped")
        return self._claim_of(row) if row else None

    def claim_together(
        self,
        releases: Sequence[Call],
        *,
        worker: str,
        pid: int,
        lease: timedelta,
        attempt_timeouts: Mapping[str, timedelta],
    ) -> Sequence[Claim]:
        """As `claim`, for jobs that go in one call: those whose releases stand, first the one with slot and place.

        That passes to another where the first one's release no longer stands.
        """
        timeouts = {name: timeout // MICROSECOND for name, timeout in attempt_timeouts.items()}
        same = {"worker": worker, "pid": pid, "lease": lease // MICROSECOND}
        wanted = [{"job": job_id, "fence": fence, **same} for job_id, fence in releases]
        rows: Sequence[Row | None]
        if self._database.is_sqlite:
            rows = self._database.batched(lambda within: [self._take(within, each, timeouts) for each in wanted])
        else:
            statement = claim_statement(tuple(timeouts.items()), waits=False)
            rows = [row for some in in_parts(wanted) for row in self._take_all(statement, some)]
        claims = {call: self._claim_of(row) for call, row in zip(releases, rows, strict=True) if row}
        if missing := [values for values, row in zip(wanted, rows, strict=True) if row is None]:
            with self._database.transaction() as connection:
                claims |= self._claim_or_drop(connection, missing, timeouts, claims)
        in_order = sorted(claims.values(), key=lambda claim: claim.follows is not None)
        return [replace(claim, follows=None, is_batch=True) for claim in in_order]

    def _claim_or_drop(
        self,
        within: Connection,
        missing: Sequence[_Values],
        timeouts: Mapping[str, int],
        claimed: Mapping[Call, Claim],
    ) -> dict[Call, Claim]:
        """Claims those of a batch whose rows were locked; the releases of the others are taken back."""
        late: dict[Call, Claim] = {}
        gone: list[Call] = []
        for values in missing:
            call = values["job"], values["fence"]
            row = None if self._database.is_sqlite else self._waiting(within, values, timeouts)
            if row:
                late[call] = self._claim_of(row)
            else:
                gone.append(call)
        if others := [*claimed, *late]:
            pass_lead(within, gone, others)
        for job_id, fence in gone:
            take_back_release(self._database, within, job_id, fence, outcome="dropped")
        return late

    def _at_once(self, values: _Values, timeouts: Mapping[str, int]) -> Row | None:
        """Claims in a statement shared with other threads. None: not claimed, perhaps because its row is locked."""
        key = tuple(timeouts.items())
        if key not in self._shared:
            self._shared[key] = BatchedStatement(
                partial(self._take_all, claim_statement(key, waits=False)), most=MOST_ROWS
            )
        return self._shared[key].run(values)

    def _waiting(self, connection: Connection, values: _Values, timeouts: Mapping[str, int]) -> Row | None:
        """Claims in this transaction, alone; waits for the row's lock."""
        wait_briefly(connection)
        (row,) = self._take_all(claim_statement(tuple(timeouts.items()), waits=True), [values], within=connection)
        return row

    def _take_all(
        self, statement: Prepared[Row], wanted: Sequence[_Values], *, within: Connection | None = None
    ) -> Sequence[Row | None]:
        asked_at = clock.monotonic()
        rows = self._database.fetch_all(statement, as_parameter(wanted), within=within)
        if rows:
            self._clock.update(rows[0]["now"], asked_at=asked_at, answered_at=clock.monotonic())
        taken = {(row["id"], row["fence"]): row for row in rows}
        # pop: of two messages of one release in the same statement, one gets the job.
        return [taken.pop((values["job"], values["fence"]), None) for values in wanted]

    def _in_a_transaction(self, values: _Values, timeouts: Mapping[str, int]) -> Row | None:
        return self._database.batched(lambda within: self._take(within, values, timeouts))

    def _take(self, within: Connection, values: _Values, timeouts: Mapping[str, int]) -> Row | None:
        """On SQLite, where a statement costs no round trip: three statements."""
        database = self._database
        named = {f"the_{name}": value for name, value in values.items()}
        asked_at = clock.monotonic()
        job = database.fetch_one(TAKE_JOB_ALONE, named, within=within)
        if job is None:
            return None
        self._clock.update(job["now"], asked_at=asked_at, answered_at=clock.monotonic())
        begins_at = min(max(job["slot_at"], job["now"]), job["now"] + rate_limit.AHEAD)
        at = {"begins_at": begins_at, "timeout": timeouts.get(job["operation"], 0)}
        place = database.fetch_one(TAKE_PLACE, {**named, **at}, within=within) or {}
        body = database.fetch_one(INPUT_ALONE, named, within=within) or dict.fromkeys(
            ("content", "content_type", "headers")
        )
        return {**job, **place, **body}

    def _claim_of(self, row: Mapping[str, Any]) -> Claim:
        is_poll = row["poll_url"] is not None  # then it follows its own place, which nobody else's call takes
        refusals, has_own_pace = read_own(row["own"])
        return Claim(
            job_id=row["id"],
            fence=row["fence"],
            operation=row["operation"],
            downstream=row["downstream"],
            attempt=row["attempt"],
            max_attempts=row["max_attempts"],
            losses=row["losses"],
            is_paced=bool(row["is_paced"] or (has_own_pace and not is_poll)) and not row["paced_by_calls"],
            paced_by_calls=bool(row["paced_by_calls"]),
            partition=row["partition"],
            refusals=max(row["refusals"] or 0, refusals),
            were_of_partition=refusals > 0,
            traceparent=row["traceparent"],
            follows=(row["follows_job"], row["follows_fence"]) if row["follows_job"] and not is_poll else None,
            may_be_followed=bool(row["has_places"]) and row["queue"] == Queue.IO,
            poll_url=row["poll_url"],
            polls=row["fence"] - (row["follows_fence"] or 0) if is_poll else 0,
            waited_seconds=max(0, row["now"] - row["run_at"]) / 1e6,
            slot_due=self._clock.due(row["slot_at"]),
            late_seconds=late_seconds(jitter=row["jitter"] or 0, clock_error=self._clock.error),
            deadline_due=self._clock.due(row["deadline"]),
            input=input_of(row),
        )

    def disclaim(self, job_id: str, fence: int, *, worker: str) -> bool:
        """Undoes a claim whose answer was lost; returns whether it had been committed.

        The claim may still wait in the server, for a lock or to be committed, and be done there long after its
        connection is gone. Whichever of the two comes first, the job is in nobody's hands afterwards.
        """
        own = and_(
            attempts.c.job_id == job_id,
            attempts.c.fence == fence,
            attempts.c.worker == worker,
            attempts.c.ended_at.is_(None),
        )
        runs = and_(jobs.c.id == job_id, jobs.c.fence == fence, jobs.c.state == State.RUNNING)
        values = {**come_back(spent=False, after=timedelta(0), waits_for=None), "attempt": jobs.c.attempt - 1}
        with self._database.transaction() as connection:
            wait_briefly(connection)
            # Waits for a claim that holds the row's lock; a later one finds its release taken back. What follows are
            # separate statements, whose snapshots see what that claim wrote.
            connection.execute(select(jobs.c.id).where(jobs.c.id == job_id).with_for_update())
            if take_back_release(self._database, connection, job_id, fence, outcome="unclaimed"):
                return False
            connection.execute(update(jobs).where(runs, select(attempts.c.job_id).where(own).exists()).values(**values))
            ended = connection.execute(update(attempts).where(own).values(ended_at=database_now(), outcome=HANDED_BACK))
            if ended.rowcount:
                give_call_back(self._database, connection, job_id, fence)
            forget_attempts(connection, [job_id])
        return ended.rowcount == 1
