"""A worker's writes on the jobs of a batch: who still takes part, their progress, their outcomes. All carry fences."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    select,
    tuple_,
    update,
)

from tidegate import clock
from tidegate.clock import to_microseconds
from tidegate.database.connection import Database
from tidegate.database.json_rows import is_one_of
from tidegate.database.schema import attempts, downstreams, jobs
from tidegate.database.statement import Prepared, required
from tidegate.database.time import CLOCK, database_now
from tidegate.dispatch.partitions.throttle import partition_answered
from tidegate.dispatch.undo_release import give_call_back
from tidegate.execution.attempt import Success
from tidegate.execution.attempt_ends import end_attempt, lane_failed, lane_refused, move
from tidegate.execution.batch_endings import HALVED, Ending, LaneNews
from tidegate.execution.batch_lead import pass_lead
from tidegate.execution.successes import LANE_ANSWERED, Successes
from tidegate.jobs.job import Call, Claim, InBatch
from tidegate.jobs.transitions import IN_TIME, come_back, count_ends, ended, error_text, is_among
from tidegate.metrics.counters import Counts
from tidegate.metrics.families import FINISHED
from tidegate.operations.operation import Progress
from tidegate.states import State

LEFT_OUT = "left out"
"""The outcome of an attempt whose job was cancelled, or had expired, before its batch was called."""


def _still_counting(which: ColumnElement[bool]) -> Any:
    return select(jobs.c.id, jobs.c.fence).where(
        which, jobs.c.state == State.RUNNING, IN_TIME, ~jobs.c.cancel_requested
    )


_IDS = bindparam("ids", type_=Text())
# Prepared, for every call asks it: a list of ids that is as long as the batch is another statement for each length.
_STILL_COUNTING = Prepared(
    _still_counting(is_one_of(jobs.c.id, cast(func.json_array_elements_text(cast(_IDS, JSON)), jobs.c.id.type))),
    lambda row: (str(row["id"]), int(row["fence"])),
    on_sqlite=_still_counting(jobs.c.id.in_(select(func.json_each(_IDS).table_valued("value").c.value))),
)


class BatchStore:
    """Statements of the batch runner on claimed jobs."""

    def __init__(self, database: Database, counts: Counts) -> None:
        self._database = database
        self._counts = counts
        self._successes = Successes(database)

    def still_counting(self, claims: Sequence[Claim]) -> set[str]:
        """Which of these jobs still run under their claims, are in time, and are not to be cancelled."""
        given = {"ids": orjson.dumps([claim.job_id.replace("-", "") for claim in claims]).decode()}
        counting = set(self._database.fetch_all(_STILL_COUNTING, given))
        return {claim.job_id for claim in claims if (claim.job_id, claim.fence) in counting}

    def progress(self, claims: Sequence[Claim], progress: Progress, *, lease: timedelta) -> set[str]:
        """Writes the progress of a call to all of its jobs that still count, and renews their leases. Who are they?"""
        values = {
            "percent": case((jobs.c.percent < progress.percent, progress.percent), else_=jobs.c.percent),
            "done": progress.done,
            "total": progress.total,
            "note": progress.note,
            "version": jobs.c.version + 1,
            "lease_until": database_now(lease),
        }
        still = and_(_are_mine(claims), IN_TIME, ~jobs.c.cancel_requested)
        with self._database.transaction() as connection:
            return {row.id for row in connection.execute(update(jobs).where(still).values(values).returning(jobs.c.id))}

    def leave_out(self, leaving: Sequence[Claim], staying: Sequence[Claim]) -> Call | None:
        """Takes jobs out of a batch before its call: they end, or are queued again. The others are a batch.

        Returns the call of the job that has slot and place from now on, where that was one of those.
        """
        with self._database.transaction() as connection:
            lead = pass_lead(connection, _calls(leaving), _calls(staying))
            moved: list[Row[Any]] = []
            for claim in leaving:
                back = come_back(spent=False, after=timedelta(0), waits_for=None)
                row = move(connection, claim, **back, attempt=jobs.c.attempt - 1, batch=None)
                end_attempt(connection, claim, LEFT_OUT, None, won=bool(row))
                moved += row
            for claim, part in zip(staying, InBatch.among([each.job_id for each in staying]), strict=True):
                move(connection, claim, batch=part.text, version=jobs.c.version + 1)
                own = is_among([(claim.job_id, claim.fence)])
                connection.execute(update(attempts).where(own).values(batch_id=part.id))
        count_ends(self._counts, moved)
        return lead

    def record(self, endings: Sequence[Ending], news: LaneNews, *, call_seconds: float | None) -> Sequence[bool]:
        """Records what became of the jobs of one call, in one transaction; which outcomes stand.

        The others' jobs had another outcome before. `call_seconds` None: there was no call.
        """
        began = None if call_seconds is None else clock.monotonic() - call_seconds
        successes = {
            each.claim.job_id: Success(claim=each.claim, result=each.result, call_began=began)
            for each in endings
            if each.result
        }
        at_once: set[str] = set()
        if len(successes) == len(endings) and not self._database.is_sqlite:
            won = self._successes.record_together([*successes.values()])
            at_once = {job_id for job_id, stands in zip(successes, won, strict=True) if stands}
            if endings[0].claim.were_of_partition:
                with self._database.transaction() as connection:
                    partition_answered(connection, endings[0].claim)
        rest = [each for each in endings if each.claim.job_id not in at_once]
        stands, moved, succeeded = (
            self._database.batched(lambda within: self._record(within, rest, news, successes, call_seconds))
            if rest
            else ({}, (), 0)
        )
        count_ends(self._counts, moved)
        if number := len(at_once) + succeeded:
            self._counts.add(FINISHED, endings[0].claim.operation, State.SUCCEEDED, by=number)
        return [each.claim.job_id in at_once or stands[each.claim.job_id] for each in endings]

    def _record(
        self,
        within: Connection,
        endings: Sequence[Ending],
        news: LaneNews,
        successes: dict[str, Success],
        call_seconds: float | None,
    ) -> tuple[dict[str, bool], Sequence[Row[Any]], int]:
        """Which outcomes stand, the jobs that moved, and how many more succeeded."""
        now = to_microseconds(required(self._database.fetch_one(CLOCK, within=within)))
        stands: dict[str, bool] = {}
        moved: list[Row[Any]] = []
        succeeded, is_new, halved = 0, False, 0
        for ending in endings:
            claim = ending.claim
            if success := successes.get(claim.job_id):
                won = self._successes.record_within(within, success)
                succeeded += won
                if not won:
                    won = end_attempt(within, claim, ending.outcome, call_seconds, won=False)
            else:
                rows = move(within, claim, *([IN_TIME] if ending.is_final else []), **_values(ending, now))
                won = end_attempt(within, claim, ending.outcome, call_seconds, won=bool(rows))
                is_new |= bool(rows) or not won  # else this outcome was offered, and counted, before
                moved += rows
                halved += bool(rows) and ending.outcome == HALVED
                if rows and call_seconds is None:
                    give_call_back(self._database, within, claim.job_id, claim.fence)
            stands[claim.job_id] = won
        if halved:
            self._database.execute(_CAME_BACK, {"lane": endings[0].claim.downstream, "number": halved}, within=within)
        if news.answered:
            self._database.execute(LANE_ANSWERED, {"lane": endings[0].claim.downstream}, within=within)
            partition_answered(within, endings[0].claim)
        if is_new and news.refused is not None:
            lane_refused(self._database, within, endings[0].claim, news.refused)
        elif is_new and news.failed:
            lane_failed(within, endings[0].claim)
        return stands, moved, succeeded


# They go again, before all that waits: what was counted as gone when they were released is not.
_CAME_BACK = Prepared(
    update(downstreams)
    .where(downstreams.c.name == bindparam("lane"))
    .values(companions=downstreams.c.companions - bindparam("number", type_=BigInteger)),
    bool,
)


def _values(ending: Ending, now: int) -> dict[str, Any]:
    """What an ending other than a success writes to its job."""
    values: dict[str, Any] = {} if ending.error is None else {"error": error_text(ending.error)}
    if ending.is_final:
        return {**values, **ended(State.FAILED)}
    after = timedelta(0) if ending.after is None else ending.after
    values |= come_back(spent=ending.is_spent, after=after, waits_for=ending.waits_for, since=now)
    values["batch"] = ending.batch.text if ending.batch else None
    if ending.after is None:
        values |= {"run_at": jobs.c.run_at, "rank_at": jobs.c.rank_at}
    if not ending.is_counted:
        values["attempt"] = jobs.c.attempt - 1
    return values


def _are_mine(claims: Sequence[Claim]) -> Any:
    which = tuple_(jobs.c.id, jobs.c.fence).in_(_calls(claims))
    return and_(jobs.c.id.in_([claim.job_id for claim in claims]), which, jobs.c.state == State.RUNNING)


def _calls(claims: Collection[Claim]) -> list[Call]:
    return [(claim.job_id, claim.fence) for claim in claims]
