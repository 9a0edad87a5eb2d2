"""Random moves against the real store: whatever callers, workers and sweeps do in whatever order, the rules hold."""

import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Row, text

from tests.support import sqlite
from tests.support.jobs import (
    LANE,
    LEASE,
    change_job,
    change_lane,
    claim,
    lose_lease,
    open_lane,
    pass_deadline,
    release,
    result_of,
    row_of,
    submit,
)
from tidegate.database.connection import Database
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.database.time import database_now
from tidegate.jobs.job import Claim, Released
from tidegate.maintenance.sweep import sweep
from tidegate.metrics.families import FINISHED
from tidegate.operations.operation import Progress
from tidegate.operations.outcome import Succeeded
from tidegate.states import MOVES, State
from tidegate.stores import Store

pytestmark = pytest.mark.long  # some thousand moves on each database

CONCURRENCY = 3
ERROR = {"code": "operation_error", "message": "no"}
RESULT = Succeeded(content=b"1", content_type="application/json", is_json=True)
# Counted from the newest: what hypothesis likes best, 0, is then what is in the middle of something.
PICK = st.integers(0, 12)
NOW = timedelta(0)
T = TypeVar("T")


def _newest(choice: Sequence[T], pick: int) -> T:
    return choice[-1 - pick % len(choice)]


class Machine(RuleBasedStateMachine):
    """The model is small: the row before each move says what the move may do."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, Row[Any]] = {}
        self.messages: list[Released] = []
        self.claims: list[Claim] = []
        self.claimed: set[tuple[str, int]] = set()
        self.outcomes: dict[tuple[str, int], str] = {}
        self.finished: Counter[str] = Counter()

    @rule(max_attempts=st.integers(1, 3))
    def submit(self, max_attempts: int) -> None:
        job_id = submit(self.store, max_attempts=max_attempts)
        self.seen[job_id] = row_of(self.store, job_id)

    @rule(max_attempts=st.integers(1, 3))
    def begin(self, max_attempts: int) -> None:
        """The usual way: submitted, released, claimed. Most other moves need a job that got so far."""
        self.submit(max_attempts)
        self.release()
        self.the_rules_hold()
        if self.messages:
            self.claim(0)

    @rule()
    def release(self) -> None:
        released = release(self.store)
        for job in released:
            assert self.seen[job.job_id].state == State.QUEUED
            assert job.fence == self.seen[job.job_id].fence + 1
        self.messages += released

    @precondition(lambda self: self.messages)
    @rule(pick=PICK)
    def claim(self, pick: int) -> None:
        """Any message, also of long ago and twice."""
        message = _newest(self.messages, pick)
        row = self.seen[message.job_id]
        stands = row.state == State.QUEUED and row.slot_at is not None and row.fence == message.fence
        claimed = claim(self.store, message)
        assert (claimed is not None) == (stands and not self._is_late(row))
        if claimed:
            assert (claimed.job_id, claimed.fence) not in self.claimed, "one release, one claim"
            self.claimed.add((claimed.job_id, claimed.fence))
            self.claims.append(claimed)

    @precondition(lambda self: self.claims)
    @rule(pick=PICK, done=st.integers(-1, 11))
    def progress(self, pick: int, done: int) -> None:
        claimed = _newest(self.claims, pick)
        row = self.seen[claimed.job_id]
        taken = self.store.workers.progress(claimed, Progress(done=done, total=10), lease=LEASE)
        assert taken == (self._is_mine(claimed) and not self._is_late(row) and not row.cancel_requested)

    @precondition(lambda self: self.claims)
    @rule(pick=PICK, way=st.sampled_from(["succeed", "fail", "retry", "retry no more", "hand back", "refuse"]))
    def end(self, pick: int, way: str) -> None:
        """Any claim, also one that was ended or lost before; an outcome that stands may be offered again."""
        claimed, workers = _newest(self.claims, pick), self.store.workers
        is_mine, is_late = self._is_mine(claimed), self._is_late(self.seen[claimed.job_id])
        match way:
            case "succeed":
                outcome, may = "succeeded", is_mine and not is_late
                taken = workers.succeed(claimed, RESULT, call_seconds=0.1)
            case "fail":
                outcome, may = "failed", is_mine and not is_late
                taken = workers.fail(claimed, ERROR, call_seconds=0.1)
            case "hand back":
                outcome, may = "no slot", is_mine
                taken = workers.hand_back(claimed, after=NOW, outcome=outcome)
            case "refuse":
                outcome, may = "refused", is_mine
                taken = workers.refused(claimed, ERROR, after=timedelta(seconds=9), call_seconds=0.1)
                if may and not State(row_of(self.store, claimed.job_id).state).is_final:
                    change_job(self.store, claimed.job_id, run_at=database_now())
            case _:
                outcome, may = "error", is_mine
                spent = claimed.is_last or way == "retry no more"
                taken = workers.try_again(
                    claimed, ERROR, after=NOW, is_spent=spent, blames_downstream=True, call_seconds=0.1
                )
        key = (claimed.job_id, claimed.fence)
        assert taken == (may or self.outcomes.get(key) == outcome)
        self.outcomes[key] = outcome if taken else "late"
        change_lane(self.store, paused_until=None, failures=0)

    @precondition(lambda self: self.seen)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        job_id = self._pick(pick)
        before = self.seen[job_id]
        job = self.store.callers.cancel(job_id, IMPLICIT_CLIENT)
        assert job is not None
        if before.state == State.QUEUED and not self._is_late(before):
            assert job.state is State.CANCELLED
        if before.state == State.RUNNING and not self._is_late(before):
            assert (job.state, job.cancel_requested) == (State.RUNNING, True)

    @precondition(lambda self: self.seen)
    @rule(pick=PICK)
    def read(self, pick: int) -> None:
        job_id = self._pick(pick)
        job = self.store.callers.get(job_id, IMPLICIT_CLIENT)
        assert job is not None
        assert job.state.is_final or not self._is_late(self.seen[job_id]), "no answer is later than its deadline"

    @precondition(lambda self: self.seen)
    @rule(pick=PICK)
    def let_the_deadline_pass(self, pick: int) -> None:
        job_id = self._pick(pick)
        if not State(self.seen[job_id].state).is_final:
            pass_deadline(self.store, job_id)
            self.seen[job_id] = row_of(self.store, job_id)

    @precondition(lambda self: self.seen)
    @rule(pick=PICK)
    def lose_the_lease(self, pick: int) -> None:
        job_id = self._pick(pick)
        if self.seen[job_id].state == State.RUNNING:
            lose_lease(self.store, job_id)
            self.seen[job_id] = row_of(self.store, job_id)

    @rule(long_after=st.booleans())
    def sweep(self, long_after: bool) -> None:
        if long_after:
            self.store.database.execute(text("UPDATE attempts SET place_until = 0"))
        sweep(self.store.upkeep, retention=timedelta(days=1))
        for job_id, row in self.seen.items():
            assert not self._is_late(row) or State(row_of(self.store, job_id).state).is_final

    @rule()
    def stop_the_worker(self) -> None:
        self.store.heartbeats.remove("worker-1")
        open_lane(self.store, concurrency=CONCURRENCY)

    @invariant()
    def the_rules_hold(self) -> None:
        for job_id, before in list(self.seen.items()):
            after = row_of(self.store, job_id)
            old, new = State(before.state), State(after.state)
            assert old == new or new in MOVES[old], f"{old} became {new}"
            assert not old.is_final or after == before, "a final job changed"
            assert after.percent >= before.percent
            assert after.version >= before.version + (old != new)
            assert after.fence >= before.fence
            assert 0 <= after.attempt - after.losses <= after.max_attempts or new is not State.QUEUED
            assert after.attempt >= 0
            assert (result_of(self.store, job_id) is not None) == (new is State.SUCCEEDED)
            self.seen[job_id] = after
        assert self.store.lanes.held().get(LANE, 0) <= CONCURRENCY
        self.finished.update(
            {labels[1]: int(by) for (name, labels), by in self.store.counts.drain().items() if name == FINISHED.name}
        )
        ends = Counter(row.state for row in self.seen.values() if State(row.state).is_final)
        assert self.finished == ends, "each end is counted, and counted once"

    def _pick(self, pick: int) -> str:
        return _newest(list(self.seen), pick)

    def _is_mine(self, claimed: Claim) -> bool:
        row = self.seen[claimed.job_id]
        return bool(row.state == State.RUNNING and row.fence == claimed.fence)

    @staticmethod
    def _is_late(row: Row[Any]) -> bool:
        # `pass_deadline` puts it hours after created_at, a submit a minute.
        return bool(row.deadline > row.created_at + timedelta(hours=1))


def _few(examples: int) -> settings:
    # Not shrunk: that takes minutes here, and a failing run is told step by step anyway.
    return settings(max_examples=examples, stateful_step_count=50, phases=[Phase.generate])


def _machine_on(url_of_fresh: Any) -> type[Machine]:
    class OnDatabase(Machine):
        def __init__(self) -> None:
            super().__init__()
            self.store = Store(Database(url_of_fresh()))
            open_lane(self.store, concurrency=CONCURRENCY)

        def teardown(self) -> None:
            self.store.database.close()

    return OnDatabase


def test_random_moves_on_sqlite(sqlite_url: str) -> None:
    folder = Path(sqlite_url.removeprefix("sqlite:///")).parent
    numbers = itertools.count()

    def fresh() -> str:
        own = folder / str(next(numbers))
        own.mkdir()
        return sqlite.fresh_database(own)

    run_state_machine_as_test(_machine_on(fresh), settings=_few(30))


def test_random_moves_on_postgresql(postgresql_url: str) -> None:
    def fresh() -> str:
        database = Database(postgresql_url, pool_size=1)
        with database.transaction() as connection:
            connection.execute(text("TRUNCATE jobs, downstreams, workers CASCADE"))
        database.close()
        return postgresql_url

    run_state_machine_as_test(_machine_on(fresh), settings=_few(6))
