"""Many jobs in one call: what goes along, one slot and place, each job's own outcome, halves, who is left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
import pytest
from pydantic import JsonValue
from sqlalchemy import func, select

from tests.support.jobs import (
    LANE,
    LEASE,
    attempts_of,
    change_job,
    change_lane,
    lane_row,
    open_lane,
    outcomes_of,
    result_of,
    row_of,
    submit,
    time_at,
)
from tidegate.database.schema import IMPLICIT_CLIENT, attempts
from tidegate.dispatch.batches import BatchedJobs
from tidegate.dispatch.gate import Gate, GateRun
from tidegate.dispatch.plan import plan_release
from tidegate.execution.batch_runner import BatchRunner
from tidegate.execution.handoff import Handoff, SilentHandoff
from tidegate.jobs.job import Call, InBatch, Released
from tidegate.notify.notifier import SilentNotifier
from tidegate.operations.batch import Batch
from tidegate.operations.operation import Attempt, Body, Member
from tidegate.operations.outcome import (
    BatchOutcome,
    ErrorCode,
    Failed,
    HandedBack,
    Outcome,
    Refused,
    Split,
    Succeeded,
    TryAgain,
)
from tidegate.operations.python_operation import operation
from tidegate.operations.registry import Registry
from tidegate.operations.retry import RetryPolicy
from tidegate.states import State
from tidegate.stores import Store

BATCH = Batch(max=10)
Answer = Callable[[Sequence[Member]], BatchOutcome | Failed]


@dataclass(kw_only=True)
class Calls:
    """The calls that an operation made: of each the jobs' ids, and the key under which the downstream got them."""

    jobs: list[list[str]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def echo(members: Sequence[Member]) -> list[Outcome]:
    return [succeeded(member) for member in members]


def succeeded(member: Member) -> Succeeded:
    return Succeeded(content=member.body.content, content_type="application/json", is_json=True)


class Together:
    """Jobs of one batched operation on their way: submitted, released by a gate, run by a worker."""

    def __init__(
        self,
        store: Store,
        answer: Answer = echo,
        *,
        batch: Batch = BATCH,
        attempts: int = 3,
        handoff: Handoff | None = None,
    ) -> None:
        self.store = store
        self.calls = Calls()
        self.before_check: Callable[[], object] = lambda: None
        self.before_begin: list[BatchOutcome] = []

        @operation(name="made", downstream=LANE, retry=RetryPolicy(attempts=attempts, delay=timedelta(0)))
        def made(params: JsonValue) -> JsonValue:
            return params

        def run_batch(members: Callable[[], Sequence[Member]], attempt: Attempt) -> BatchOutcome | Failed:
            if self.before_begin:
                return self.before_begin.pop()
            attempt.begin()
            self.before_check()
            called = members()
            self.calls.jobs.append([member.job_id for member in called])
            self.calls.keys.append(attempt.job_id)
            return answer(called)

        self.operation = Batched(made, batch, run_batch)
        self.runner = BatchRunner(
            store,
            Registry.of([self.operation]),
            worker="mine",
            lease=LEASE,
            max_result=10_000,
            notifier=SilentNotifier(),
            handoff=handoff or SilentHandoff(),
        )
        self.gate = Gate(store.lanes, batched={"made": batch, "bare": batch})

    def submit(self, number: int, **job: Any) -> list[str]:
        options: dict[str, Any] = {"operation": "made", "max_attempts": self.operation.retry.attempts, **job}
        return [submit(self.store, **{"body": body_of(index), **options}) for index in range(number)]

    def release(self) -> list[list[Released]]:
        """What the gate lets go now, by message."""
        by_message: dict[str, list[Released]] = {}
        for job in self.gate.run_once().released:
            by_message.setdefault(job.batch.id if job.batch else job.job_id, []).append(job)
        return [*by_message.values()]

    def run(self, message: Sequence[Released]) -> bool:
        part = message[0].batch
        assert part is not None
        return self.runner.run(part.id, [(job.job_id, job.fence) for job in message])

    def run_all(self, *, most: int = 100) -> int:
        """Releases and runs until nothing goes any more; how many calls that were."""
        for number in range(most):
            if not (messages := self.release()):
                return number
            for message in messages:
                self.run(message)
        raise AssertionError(f"still going after {most} turns: {self.calls.jobs[-5:]}")


class Told(SilentHandoff):
    """What followers are told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def notify_call_ended(self, ended: Call) -> None:  # noqa: ARG002 - the protocol's
        self.heard.append("ended")

    def alarm(self) -> None:
        self.heard.append("alarm")


class Batched:
    """An operation with another `run_batch`."""

    def __init__(self, made: Any, batch: Batch, run_batch: Any) -> None:
        self._made, self.batch, self.run_batch = made, batch, run_batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


def body_of(index: int) -> Body:
    return Body(content=orjson.dumps({"n": index}))


def states_of(store: Store, ids: Sequence[str]) -> list[str]:
    return [str(row_of(store, job_id).state) for job_id in ids]


def open_places(store: Store) -> int:
    return store.lanes.held().get(LANE, 0)


def test_what_waits_goes_along_up_to_max(store: Store) -> None:
    open_lane(store, rates=("1/s",))
    together = Together(store)
    ids = together.submit(25)
    (message,) = together.release()
    assert [job.job_id for job in message] == ids[:10]
    parts = [InBatch.parse(row_of(store, job_id).batch) for job_id in ids[:10]]
    assert [(part.size, part.index) for part in parts] == [(10, index) for index in range(10)]
    assert {part.id for part in parts} == {message[0].batch.id if message[0].batch else None}
    assert [row_of(store, job_id).batch for job_id in ids[10:]] == [None] * 15


def test_a_batch_takes_one_slot_and_one_place(store: Store) -> None:
    open_lane(store, rates=("10/s",), burst=2, concurrency=3)
    together = Together(store)
    ids = together.submit(20)
    first, second = together.release()
    assert {job.slot_at for job in first} == {first[0].slot_at}
    assert {job.slot_at for job in second} == {second[0].slot_at}
    assert open_places(store) == 2
    assert lane_row(store).released == 2
    together.run(first)
    assert open_places(store) == 1
    assert states_of(store, ids) == [State.SUCCEEDED] * 10 + [State.QUEUED] * 10
    assert [result_of(store, job_id) for job_id in ids[:10]] == [body_of(index).content for index in range(10)]
    assert together.calls.jobs == [ids[:10]]


def test_as_many_batches_are_open_as_the_concurrency_allows(store: Store) -> None:
    open_lane(store, concurrency=2)
    together = Together(store)
    together.submit(35)
    messages = together.release()
    assert [len(message) for message in messages] == [10, 10]
    assert together.release() == []
    together.run(messages[0])
    assert [len(message) for message in together.release()] == [10]


def test_a_worker_counts_a_batch_as_one_message(store: Store) -> None:
    open_lane(store, size=2)
    together = Together(store)
    together.submit(100)
    assert [len(message) for message in together.release()] == [10] * 4  # twice its size
    assert together.release() == []


def test_hundreds_of_jobs_are_released_together_each_with_its_call(store: Store) -> None:
    """On PostgreSQL by several statements of one transaction."""
    open_lane(store, size=100)
    together = Together(store)
    ids = together.submit(255)
    messages = together.release()
    assert [job.job_id for message in messages for job in message] == ids
    assert [len(message) for message in messages] == [10] * 25 + [5]
    assert (open_places(store), lane_row(store).released) == (26, 26)
    together.submit(1)
    assert [len(message) for message in together.release()] == [1], "the lane is known as it is now"
    for message in messages:
        together.run(message)
    assert states_of(store, ids) == [State.SUCCEEDED] * 255


def test_of_hundreds_those_stay_that_have_moved_meanwhile(store: Store) -> None:
    """A head of one that has moved takes its companions along, in whatever statement they are."""
    open_lane(store, size=100)
    together = Together(store)
    ids = together.submit(250)
    lanes, write = store.lanes, store.lanes.write

    def write_late(*plans: Any) -> Any:
        for index in (0, *range(100, 200)):
            change_job(store, ids[index], fence=7)
        return write(*plans)

    lanes.write = write_late  # type: ignore[method-assign] # as another transaction between read and write
    released = [job.job_id for job in together.gate.run_once().released]
    lanes.write = write  # type: ignore[method-assign]
    assert released == ids[10:100] + ids[200:]
    assert lane_row(store).released == 14
    assert open_places(store) == 14


def test_no_job_waits_for_company_in_a_lane_with_a_rate(store: Store) -> None:
    open_lane(store, rates=("10/s",))
    together = Together(store, batch=Batch(max=10, linger=timedelta(minutes=1)))
    ids = together.submit(1)
    (message,) = together.release()
    assert [job.job_id for job in message] == ids


def test_a_job_lingers_where_nothing_paces_the_calls(store: Store) -> None:
    open_lane(store)
    together = Together(store, batch=Batch(max=3, linger=timedelta(seconds=20)))
    ids = together.submit(2)
    turn: GateRun = together.gate.run_once()
    assert (turn.released, 0 < turn.look_again_seconds <= 1.0) == ([], True)
    ids += together.submit(1)
    assert [[job.job_id for job in message] for message in together.release()] == [ids]
    late = together.submit(1)
    change_job(store, late[0], run_at=time_at(store) - timedelta(seconds=21))
    assert [[job.job_id for job in message] for message in together.release()] == [late]


def test_the_inputs_of_a_batch_are_bounded(store: Store) -> None:
    open_lane(store)
    together = Together(store, batch=Batch(max=10, max_bytes=1000))
    large = Body(content=b'"' + b"x" * 400 + b'"')
    together.submit(5, body=large)
    assert [len(message) for message in together.release()] == [2, 2, 1]


def test_operations_do_not_mix(store: Store) -> None:
    open_lane(store)
    together = Together(store)
    made, bare, single = (
        together.submit(2),
        together.submit(2, operation="bare"),
        together.submit(2, operation="single"),
    )
    messages = [[job.job_id for job in message] for message in together.release()]
    assert sorted(messages) == sorted([made, bare, [single[0]], [single[1]]])
    assert row_of(store, single[0]).batch is None


def test_a_deadline_before_the_calls_end_goes_along_with_nobody(store: Store) -> None:
    open_lane(store, call_seconds=5.0)
    together = Together(store)
    first, near, last = *together.submit(1), *together.submit(1, timeout=timedelta(seconds=3)), *together.submit(1)
    messages = [[job.job_id for job in message] for message in together.release()]
    assert sorted(messages) == sorted([[first, last], [near]])


def test_each_job_has_its_own_outcome(store: Store) -> None:
    def answer(members: Sequence[Member]) -> list[Outcome]:
        return [
            succeeded(members[0]),
            Failed(code=ErrorCode.DOWNSTREAM_ERROR, message="no such thing"),
            TryAgain(code=ErrorCode.OPERATION_ERROR, message="later", retry_after=timedelta(minutes=1)),
            HandedBack(reason="given back", after=timedelta(minutes=1)),
        ]

    open_lane(store)
    together = Together(store, answer)
    ids = together.submit(4)
    (message,) = together.release()
    together.run(message)
    assert states_of(store, ids) == [State.SUCCEEDED, State.FAILED, State.QUEUED, State.QUEUED]
    assert [outcomes_of(store, job_id) for job_id in ids] == [["succeeded"], ["failed"], ["error"], ["given back"]]
    assert [row_of(store, job_id).attempt for job_id in ids] == [1, 1, 1, 0]
    assert "no such thing" in row_of(store, ids[1]).error
    assert open_places(store) == 0


def test_a_job_that_is_tried_again_by_itself_goes_with_whoever_waits(store: Store) -> None:
    def answer(members: Sequence[Member]) -> list[Outcome]:
        again = TryAgain(code=ErrorCode.OPERATION_ERROR, message="later")
        return [again if member.number == 1 and member.job_id == ids[0] else succeeded(member) for member in members]

    open_lane(store, concurrency=1)
    together = Together(store, answer)
    ids = together.submit(15)
    together.run_all()
    assert states_of(store, ids) == [State.SUCCEEDED] * 15
    assert together.calls.jobs == [ids[:10], sorted([ids[0], *ids[10:]])]


@pytest.mark.parametrize(
    "outcome",
    [
        TryAgain(code=ErrorCode.DOWNSTREAM_ERROR, message="503"),
        Refused(message="full", retry_after=timedelta(seconds=0.01)),
        HandedBack(reason="short"),
    ],
)
def test_what_does_not_judge_content_goes_again_whole_under_the_same_key(store: Store, outcome: Any) -> None:
    answers: list[Answer] = [lambda _: outcome, echo]

    def answer(members: Sequence[Member]) -> BatchOutcome | Failed:
        return answers.pop(0)(members)

    open_lane(store, concurrency=1)
    together = Together(store, answer)
    ids = together.submit(3)
    (message,) = together.release()
    later = together.submit(3)
    together.run(message)
    assert row_of(store, ids[0]).run_at == row_of(store, ids[2]).run_at
    answers.append(echo)
    change_lane(store, paused_until=None)  # its rest is over
    together.run_all()
    assert sorted(together.calls.jobs) == sorted([ids, ids, later])
    assert len(set(together.calls.keys)) == 2
    assert states_of(store, [*ids, *later]) == [State.SUCCEEDED] * 6


@pytest.mark.parametrize("poison", range(10))
def test_one_poison_in_ten_fails_alone_within_eight_more_calls(store: Store, poison: int) -> None:
    def answer(members: Sequence[Member]) -> BatchOutcome | Failed:
        if ids[poison] in {member.job_id for member in members}:
            return Failed(code=ErrorCode.DOWNSTREAM_ERROR, message="400")
        return echo(members)

    open_lane(store)
    together = Together(store, answer)
    ids = together.submit(10)
    together.run_all()
    assert len(together.calls.jobs) <= 9
    assert states_of(store, ids) == [State.FAILED if index == poison else State.SUCCEEDED for index in range(10)]
    assert [row_of(store, job_id).attempt for job_id in ids] == [1] * 10
    assert set(outcomes_of(store, ids[poison])) == {"halved", "failed"}


def test_halves_go_first_and_are_not_joined(store: Store) -> None:
    def answer(members: Sequence[Member]) -> BatchOutcome | Failed:
        return Split(alone=Failed(code=ErrorCode.OPERATION_ERROR, message="no")) if len(members) > 5 else echo(members)

    open_lane(store, concurrency=1)
    together = Together(store, answer)
    ids = together.submit(10)
    (message,) = together.release()
    later = together.submit(10)
    together.run(message)
    assert [InBatch.parse(row_of(store, job_id).batch).size for job_id in ids] == [5] * 10
    together.run_all()
    assert together.calls.jobs[1:3] == [ids[:5], ids[5:]]
    assert states_of(store, ids) == [State.SUCCEEDED] * 10
    assert set().union(*together.calls.jobs[3:]) == {*later}


def test_a_job_alone_has_what_its_exception_would_be(store: Store) -> None:
    again = TryAgain(code=ErrorCode.OPERATION_ERROR, message="ValueError")
    open_lane(store)
    together = Together(store, lambda _: Split(alone=again), attempts=2)
    ids = together.submit(2)
    together.run_all()
    assert states_of(store, ids) == [State.FAILED] * 2
    assert [outcomes_of(store, job_id) for job_id in ids] == [["halved", "error", "error"]] * 2


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_job_that_is_cancelled_before_the_call_is_left_out(store: Store, index: int) -> None:
    open_lane(store, rates=("10/s",), concurrency=1)
    together = Together(store)
    ids = together.submit(3)
    (message,) = together.release()
    together.before_check = lambda: store.callers.cancel(ids[index], IMPLICIT_CLIENT)
    together.run(message)
    others = [job_id for job_id in ids if job_id != ids[index]]
    assert together.calls.jobs == [others]
    assert together.calls.keys == [InBatch.among(others)[0].id]
    assert states_of(store, others) == [State.SUCCEEDED] * 2
    assert row_of(store, ids[index]).state == State.CANCELLED
    assert InBatch.parse(row_of(store, others[0]).batch) == InBatch.among(others)[0]
    assert open_places(store) == 0


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_job_that_is_cancelled_before_the_claim_is_left_out(store: Store, index: int) -> None:
    open_lane(store, rates=("10/s",), concurrency=1)
    together = Together(store)
    ids = together.submit(3)
    (message,) = together.release()
    store.callers.cancel(ids[index], IMPLICIT_CLIENT)
    places: list[int] = []
    together.before_check = lambda: places.append(open_places(store))
    together.run(message)
    others = [job_id for job_id in ids if job_id != ids[index]]
    assert together.calls.jobs == [others]
    assert places == [1]
    assert states_of(store, others) == [State.SUCCEEDED] * 2
    assert (open_places(store), together.release()) == (0, [])


def test_a_batch_of_which_nobody_is_left_gives_slot_and_place_back(store: Store) -> None:
    open_lane(store, rates=("1000/s", "1/d"), concurrency=1)
    together = Together(store)
    ids = together.submit(2)
    (message,) = together.release()
    for job_id in ids:
        store.callers.cancel(job_id, IMPLICIT_CLIENT)
    assert not together.run(message)
    assert (open_places(store), together.calls.jobs) == (0, [])
    together.submit(1)
    assert len(together.release()) == 1


def test_of_two_messages_of_one_batch_one_calls(store: Store) -> None:
    open_lane(store)
    together = Together(store)
    ids = together.submit(3)
    (message,) = together.release()
    assert together.run(message)
    assert not together.run(message)
    assert together.calls.jobs == [ids]


@pytest.mark.parametrize("queue", ["io", "cpu"])
def test_a_job_that_another_death_would_fail_goes_alone(store: Store, queue: str) -> None:
    """In the queue cpu, too: a process there is one job's alone, but not where that job is in a batch."""
    open_lane(store, queue=queue)
    together = Together(store)
    ids = together.submit(3, queue=queue)
    change_job(store, ids[1], losses=2)
    messages = [[job.job_id for job in message] for message in together.release()]
    assert sorted(messages) == sorted([[ids[0], ids[2]], [ids[1]]])


def test_who_would_go_along_with_a_job_that_was_moved_meanwhile_waits_again(store: Store) -> None:
    open_lane(store, rates=("10/s",))
    together = Together(store)
    ids = together.submit(3)
    (state,) = store.lanes.read(LANE)
    batches = BatchedJobs({"made": BATCH}, store.lanes.input_sizes)
    folded = batches.fold(state, state.waiting, may_have_more=False, may_linger=False)
    plan = folded.unfold(plan_release(folded.state(state, batches.declared)), state)
    assert len(plan.released) == 3
    store.callers.cancel(ids[0], IMPLICIT_CLIENT)
    (written,) = store.lanes.write(plan)
    assert written.released == []
    assert open_places(store) == 0
    together.run_all()
    assert together.calls.jobs == [ids[1:]]


@pytest.mark.parametrize(
    ("outcome", "heard"),
    [
        (None, ["ended"]),
        (Failed(code=ErrorCode.DOWNSTREAM_ERROR, message="400"), ["ended"]),
        (Refused(message="full"), ["alarm"]),
        (TryAgain(code=ErrorCode.DOWNSTREAM_ERROR, message="500"), ["alarm"]),
        (Split(alone=TryAgain(code=ErrorCode.OPERATION_ERROR, message="ValueError")), ["alarm"]),
    ],
)
@pytest.mark.parametrize("is_one_for_all", [True, False])
def test_followers_are_told_of_a_batch_what_they_are_told_of_a_job(
    store: Store, outcome: Any, heard: list[str], *, is_one_for_all: bool
) -> None:
    """A follower that heard of the end alone would call a downstream that rests."""
    told = Told()

    def answer(members: Sequence[Member]) -> BatchOutcome | Failed:
        if outcome is None:
            return echo(members)
        return outcome if is_one_for_all or isinstance(outcome, Split) else [outcome for _ in members]

    open_lane(store, concurrency=1)
    together = Together(store, answer, handoff=told)
    together.submit(2)
    together.run(together.release()[0])
    assert told.heard == heard


def test_each_attempt_is_in_the_history(store: Store) -> None:
    open_lane(store)
    together = Together(store)
    ids = together.submit(2)
    (message,) = together.release()
    together.run(message)
    batch_id = InBatch.among(ids)[0].id
    assert [attempts_of(store, job_id)[0].batch_id for job_id in ids] == [batch_id] * 2
    leading = select(func.count()).select_from(attempts).where(attempts.c.follows_job.is_(None))
    ((number,),) = store.database.fetch_all(leading)
    assert number == 1


def test_a_batch_whose_first_job_was_erased_before_its_claim_has_one_place(store: Store) -> None:
    open_lane(store, concurrency=4)
    together = Together(store)
    ids = together.submit(5)
    (message,) = together.release()
    store.callers.cancel(ids[0], IMPLICIT_CLIENT)
    store.callers.delete(ids[0], IMPLICIT_CLIENT)
    seen: list[int] = []
    together.before_check = lambda: seen.append(open_places(store))
    together.run(message)
    assert (seen, together.calls.jobs) == ([1], [ids[1:]])
