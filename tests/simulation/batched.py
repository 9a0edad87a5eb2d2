"""Simulated operations that do many jobs in one call: their downstreams answer for each, for the whole, or refuse."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from tests.simulation.batch_plan import BAD, MOST
from tests.simulation.downstream import ATTEMPT_TIMEOUT, SimulatedOperation
from tests.simulation.invariants import Call
from tests.simulation.stores import rows
from tidegate.operations.batch import Batch
from tidegate.operations.operation import Attempt, Member
from tidegate.operations.outcome import BatchOutcome, ErrorCode, Failed, Outcome, Refused, Succeeded, TryAgain

_AGAIN = TryAgain(code=ErrorCode.DOWNSTREAM_ERROR, message="simulated")
_FAILED = Failed(code=ErrorCode.DOWNSTREAM_ERROR, message="simulated")
_REFUSED = Refused(message="simulated", retry_after=timedelta(seconds=1))
_LINGERS = {"bulk": timedelta(seconds=0.3)}


@dataclass(frozen=True)
class BatchedOperation(SimulatedOperation):
    """An operation that calls the downstream of its own name for many jobs at once."""

    @property
    def batch(self) -> Batch:
        """How many jobs a call may do."""
        return Batch(max=MOST[self.name], linger=_LINGERS.get(self.name, timedelta(0)))

    def run_batch(self, members: Callable[[], Sequence[Member]], attempt: Attempt) -> BatchOutcome | Failed:
        """Makes the one call, as what is drawn for it says."""
        world, invariants = self.cluster.world, self.cluster.invariants
        task = world.task
        if task is None:
            raise RuntimeError("only a task can call")
        process = task.process
        attempt.begin()
        since, broke = world.now, self.cluster.faults.broke[process.name]
        called = members()
        is_checked = self.cluster.faults.broke[process.name] == broke and process.frozen_until <= since
        attempt.begin()  # as before the first byte: to look who takes part may have taken until its slot was over
        attempt.sent()
        jobs = [member.job_id.replace("-", "") for member in called]
        call = Call("", 0, self.name, process, world.now, world.now, True)
        call.members = tuple((job, _fence(job, process.name)) for job in jobs)
        call.key = attempt.job_id
        call.is_checked = is_checked
        call.checked_since = since
        labels = [member.body.content.decode() for member in called]
        call.is_bad = any(label.endswith(BAD) for label in labels)
        key = f"{' '.join(labels)} {invariants.batches.calls_of(call)}"
        return self._answer(call, called, labels, key, attempt)

    def _answer(
        self, call: Call, called: Sequence[Member], labels: Sequence[str], key: str, attempt: Attempt
    ) -> BatchOutcome | Failed:
        draw = self.cluster.world.draw
        chance = 1.0 if self.cluster.is_healthy else draw(f"behaves {key}")
        seconds, is_slow = 0.05 + 1.2 * draw(f"seconds {key}") ** 2, False
        if 0.18 < chance < 0.30:
            seconds, is_slow = 2 + 5 * draw(f"slow {key}"), draw(f"reports {key}") < 0.6
        elif 0.30 < chance < 0.33:
            seconds, is_slow = ATTEMPT_TIMEOUT.total_seconds() + 1.5, True
        call.end = call.start + seconds
        self._work(call, attempt, seconds, reports=is_slow)
        if chance < 0.05:
            return self._whole(call, _REFUSED, "refused")
        if chance < 0.12:
            return self._whole(call, _AGAIN, "error")
        if chance < 0.15:
            self._split(call, "error")
            raise RuntimeError("simulated")
        if call.is_bad or chance < 0.16:
            self._split(call, "failed")
            return _FAILED
        outcomes = [self._its_own(member, label, key) for member, label in zip(called, labels, strict=True)]
        if chance < 0.18:  # an answer that is none to this batch
            self._split(call, "failed")
            return [*outcomes, _FAILED]
        call.is_of_each = True
        call.answers = {its: _word(outcome) for its, outcome in zip(call.members, outcomes, strict=True)}
        return outcomes

    def _work(self, call: Call, attempt: Attempt, seconds: float, *, reports: bool) -> None:
        world = self.cluster.world
        self.cluster.invariants.batch_begins(call)
        steps = 8 if reports else 1
        try:
            for step in range(steps):
                world.sleep(seconds / steps)
                if reports:
                    attempt.progress(step + 1, steps)
        finally:
            call.end = min(call.end, world.now)

    def _whole(self, call: Call, outcome: BatchOutcome, word: str) -> BatchOutcome:
        call.answers = dict.fromkeys(call.members, word)
        return outcome

    def _split(self, call: Call, alone: str) -> None:
        call.answers = dict.fromkeys(call.members, "halved" if len(call.members) > 1 else alone)

    def _its_own(self, member: Member, label: str, key: str) -> Outcome:
        chance = 1.0 if self.cluster.is_healthy else self.cluster.world.draw(f"its own {label} {key}")
        if chance < 0.06:
            return _AGAIN
        if chance < 0.10:
            return _FAILED
        if chance < 0.12:
            return _REFUSED
        return replace(_DONE, content=member.body.content)


_DONE = Succeeded(content=b"", content_type="text/plain", is_json=False)


def _word(outcome: Outcome) -> str:
    match outcome:
        case Succeeded():
            return "succeeded"
        case Failed():
            return "failed"
        case TryAgain():
            return "error"
    return "refused"


def _fence(job: str, worker: str) -> int:
    found = rows().ask("SELECT max(fence) AS fence FROM attempts WHERE job_id = ? AND worker = ?", job, worker)
    return found[0]["fence"] or 0
