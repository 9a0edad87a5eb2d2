"""A worker's writes on the job that it claimed: progress, success, failure, retry, hand-back. All carry the fence."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    and_,
    case,
    delete,
    func,
    select,
    update,
)

from tidegate import clock
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, jobs
from tidegate.database.time import database_now
from tidegate.execution.announcements import Announcements
from tidegate.execution.attempt import Success
from tidegate.execution.attempt_ends import end_attempt, give_turn_back, keep_place, lane_failed, lane_refused, move
from tidegate.execution.successes import LANE_ANSWERED, Successes
from tidegate.jobs.job import Claim, Wait
from tidegate.jobs.transitions import (
    IN_TIME,
    come_back,
    count_ends,
    ended,
    error_text,
    is_mine,
)
from tidegate.metrics.counters import Counts
from tidegate.metrics.families import FINISHED
from tidegate.operations.operation import Progress
from tidegate.operations.outcome import Succeeded
from tidegate.operations.quota_fields import Quota
from tidegate.states import State

_POLLS = "polls"


class OutcomeStore:
    """Statements of the runner on a claimed job."""

    def __init__(self, database: Database, counts: Counts) -> None:
        self._database = database
        self._counts = counts
        self._successes = Successes(database)
        self._announcements = Announcements(database)

    def progress(self, claim: Claim, progress: Progress, *, lease: timedelta) -> bool:
        """Writes the attempt's progress and renews its lease. False: it no longer counts and must stop."""
        written = self._database.execute(
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
        return written == 1

    def counts(self, claim: Claim) -> bool:
        """Reads whether an attempt still counts: for one that reports nothing."""
        still = select(jobs.c.id).where(is_mine(claim), IN_TIME, ~jobs.c.cancel_requested)
        return self._database.fetch_one(still) is not None

    def succeed(self, claim: Claim, result: Succeeded, *, call_seconds: float | None) -> bool:
        """Records the result, unless another won: the deadline, a newer claim. False: the result was dropped."""
        call_began = None if call_seconds is None else clock.monotonic() - call_seconds
        success = Success(claim=claim, result=result, call_began=call_began)
        if not self._database.is_sqlite and self._successes.record_at_once(success):
            self._counts.add(FINISHED, claim.operation, State.SUCCEEDED)
            return True

        def succeed(connection: Connection) -> tuple[bool, bool]:
            """Whether the outcome stands, and whether that is new: it may have been offered before."""
            if not self._successes.record_within(connection, success):
                return end_attempt(connection, claim, "succeeded", call_seconds, won=False), False
            return True, True

        stands, has_moved = self._database.batched(succeed)
        if has_moved:
            self._counts.add(FINISHED, claim.operation, State.SUCCEEDED)
        return stands

    def announce(self, claim: Claim, quotas: Sequence[Quota], *, call_seconds: float) -> None:
        """Records what the answer to a claim's call announced as left of the downstream's quotas, won or not."""
        self._announcements.record(claim, quotas, call_seconds=call_seconds)

    def fail(self, claim: Claim, error: Mapping[str, Any], *, call_seconds: float | None) -> bool:
        """Records the final error, unless another won. False: it was dropped."""
        values = {**ended(State.FAILED), "error": error_text(error)}
        with self._database.transaction() as connection:
            moved = move(connection, claim, IN_TIME, **values)
            self._lane_answered(connection, claim)
            stands = end_attempt(connection, claim, "failed", call_seconds, won=bool(moved))
        count_ends(self._counts, moved)
        return stands

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
        """Records a failed attempt: the job is queued again or final, as `come_back` decides. False: not ours."""
        values = come_back(spent=is_spent, after=after, waits_for=Wait.RETRY)
        with self._database.transaction() as connection:
            moved = move(connection, claim, **values, error=error_text(error))
            stands = end_attempt(connection, claim, "error", call_seconds, won=bool(moved))
            if not blames_downstream:
                self._lane_answered(connection, claim)
            elif moved or not stands:  # else this outcome was offered, and counted, before
                lane_failed(connection, claim)
        count_ends(self._counts, moved)
        return stands

    def hand_back(
        self,
        claim: Claim,
        *,
        after: timedelta,
        outcome: str,
        call_seconds: float | None = None,
        may_be_made: bool = False,
    ) -> bool:
        """Queues the job again as if this attempt had never been. False: it was not ours any more.

        `may_be_made`: its call may have gone out, so that it does not give its turn back.
        """
        values = come_back(spent=False, after=after, waits_for=None)
        with self._database.transaction() as connection:
            moved = move(connection, claim, **values, attempt=jobs.c.attempt - 1)
            stands = end_attempt(connection, claim, outcome, call_seconds, won=bool(moved))
            if moved and call_seconds is None and not may_be_made:
                give_turn_back(connection, claim)
        count_ends(self._counts, moved)
        return stands

    def refused(self, claim: Claim, error: Mapping[str, Any], *, after: timedelta, call_seconds: float | None) -> bool:
        """Records that the downstream had no capacity: its lane pauses for the whole cluster, the job is queued again.

        As long as that asked, within `longest_rest`. The attempt is not counted.
        """
        values = come_back(spent=False, after=after, waits_for=None)
        with self._database.transaction() as connection:
            moved = move(connection, claim, **values, attempt=jobs.c.attempt - 1, error=error_text(error))
            stands = end_attempt(connection, claim, "refused", call_seconds, won=bool(moved))
            if moved or not stands:  # else this outcome was offered, and counted, before
                lane_refused(connection, claim, after)
        count_ends(self._counts, moved)
        return stands

    def poll_later(self, claim: Claim, url: str, *, after: timedelta, call_seconds: float | None) -> bool:
        """Records that the downstream has accepted the work and is asked at `url` how far it is: the job is queued.

        The attempt is not counted. Its place stays taken, or that of the call that was accepted, until the job ends.
        Of polls that found nothing new only the last one is kept: there may be one each second, for days.
        """
        values = {
            **come_back(spent=False, after=after, waits_for=Wait.POLL),
            "attempt": jobs.c.attempt - 1,
            "error": None,
            "poll_url": url,
            "place_fence": func.coalesce(jobs.c.place_fence, claim.fence),
        }
        with self._database.transaction() as connection:
            moved = move(connection, claim, **values)
            has_place = claim.poll_url is None and any(row.state == State.QUEUED for row in moved)
            end = keep_place if has_place else end_attempt
            stands = end(connection, claim, _POLLS, call_seconds, won=bool(moved))
            if moved and claim.poll_url is not None:
                its_own = and_(attempts.c.job_id == claim.job_id, attempts.c.outcome == _POLLS)
                is_older = and_(attempts.c.ended_at.is_not(None), attempts.c.fence < claim.fence)
                connection.execute(delete(attempts).where(its_own, is_older))
            self._lane_answered(connection, claim)
        count_ends(self._counts, moved)
        return stands

    def _lane_answered(self, connection: Connection, claim: Claim) -> None:
        """Resets the downstream's numbers of refusals and failures in a row, if there are any."""
        self._database.execute(LANE_ANSWERED, {"lane": claim.downstream}, within=connection)
