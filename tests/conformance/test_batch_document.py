"""What a job's document says of the batch that it was called in, and that no change of it goes without another ETag."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from tests.conformance.test_batches import Together, echo
from tests.support.jobs import LANE, change_lane, open_lane, pass_deadline, submit
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.database.statement import required
from tidegate.jobs.document import Links, document_of
from tidegate.jobs.job import InBatch
from tidegate.operations.operation import Member
from tidegate.operations.outcome import BatchOutcome, ErrorCode, Failed, Split, TryAgain
from tidegate.stores import Store

FAILED = Failed(code=ErrorCode.DOWNSTREAM_ERROR, message="no")


class Watched:
    """Jobs whose documents are read again and again: each change of one must change what its ETag is made of."""

    def __init__(self, store: Store, ids: Sequence[str]) -> None:
        self._store, self._ids = store, ids
        self._seen: dict[tuple[str, int, str], dict[str, Any]] = {}

    def look(self) -> None:
        for job_id in self._ids:
            self.batch_of(job_id)

    def batch_of(self, job_id: str) -> Mapping[str, Any] | None:
        """What the job's document says now."""
        job = required(self._store.callers.get(job_id, IMPLICIT_CLIENT))
        document: dict[str, Any] = {**document_of(job, Links(base="", signer=None))}
        before = self._seen.setdefault((job_id, job.version, job.state), document)
        assert document == before, "it has changed, and its ETag has not"
        told: Mapping[str, Any] | None = document.get("batch")
        return told


def part_of(job_id: str, *ids: str) -> dict[str, Any]:
    """The job's part in the batch that these make."""
    part = InBatch.among(ids)[ids.index(job_id)]
    return {"id": part.id, "size": part.size, "index": part.index}


def test_the_batch_is_told_from_the_claim_on(store: Store) -> None:
    open_lane(store)
    together = Together(store)
    ids = together.submit(3)
    watched = Watched(store, ids)
    watched.look()
    (message,) = together.release()
    assert [watched.batch_of(job_id) for job_id in ids] == [None] * 3, "it waits, and may yet go with others"
    together.before_check = watched.look
    together.run(message)
    assert together.calls.keys == [InBatch.among(ids)[0].id]
    assert [watched.batch_of(job_id) for job_id in ids] == [part_of(job_id, *ids) for job_id in ids]


def test_a_job_that_was_called_alone_has_none(store: Store) -> None:
    open_lane(store)
    together = Together(store)
    job_id = submit(store, operation="single")
    (message,) = together.release()
    assert message[0].batch is None
    assert Watched(store, [job_id]).batch_of(job_id) is None


@pytest.mark.parametrize("when", ["claim", "check"])
def test_who_is_left_out_changes_the_batch_of_the_others_and_their_etag(store: Store, when: str) -> None:
    seen: list[Any] = []

    def answer(members: Sequence[Member]) -> BatchOutcome | Failed:
        seen.append(watched.batch_of(first))
        return echo(members)

    open_lane(store)
    together = Together(store, answer)
    first, gone, last = together.submit(3)
    watched = Watched(store, [first, gone, last])
    (message,) = together.release()

    def cancel() -> None:
        store.callers.cancel(gone, IMPLICIT_CLIENT)
        watched.look()

    if when == "claim":
        cancel()
    else:
        together.before_check = cancel

    together.run(message)
    assert seen == [part_of(first, first, last)]
    assert watched.batch_of(last) == part_of(last, first, last)
    assert watched.batch_of(gone) is None, "it was not called"


def test_halves_are_told_when_they_are_called(store: Store) -> None:
    def answer(members: Sequence[Member]) -> BatchOutcome | Failed:
        watched.look()
        return Split(alone=FAILED) if ids[0] in {member.job_id for member in members} else echo(members)

    open_lane(store, concurrency=1)
    together = Together(store, answer)
    ids = together.submit(4)
    watched = Watched(store, ids)
    together.before_check = watched.look
    for _ in range(5):
        for message in together.release():
            watched.look()
            together.run(message)
            watched.look()
    assert [watched.batch_of(job_id) for job_id in ids] == [
        part_of(ids[0], ids[0]),
        part_of(ids[1], ids[1]),
        *(part_of(job_id, *ids[2:]) for job_id in ids[2:]),
    ]


def test_while_it_waits_for_another_attempt_it_is_in_none(store: Store) -> None:
    def answer(_: Sequence[Member]) -> BatchOutcome | Failed:
        return TryAgain(code=ErrorCode.DOWNSTREAM_ERROR, message="503", retry_after=timedelta(minutes=1))

    open_lane(store)
    together = Together(store, answer)
    ids = together.submit(2)
    watched = Watched(store, ids)
    (message,) = together.release()
    together.run(message)
    assert [watched.batch_of(job_id) for job_id in ids] == [None, None]
    change_lane(store, LANE, paused=True)
    pass_deadline(store, ids[0])
    assert watched.batch_of(ids[0]) == part_of(ids[0], *ids), "it has ended, and was called in this one last"
