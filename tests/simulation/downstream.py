"""Simulated operations and the downstreams that they call: quick, slow, failing, refusing, or longer than they may."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.simulation.invariants import Call
from tests.simulation.plan import SHARED
from tests.simulation.stores import rows
from tidegate.operations.batch import Batch
from tidegate.operations.operation import Attempt, Body, Member
from tidegate.operations.outcome import BatchOutcome, ErrorCode, Failed, Outcome, Polls, Refused, Succeeded, TryAgain
from tidegate.operations.queues import Queue
from tidegate.operations.quota_fields import Quota
from tidegate.operations.retry import RetryPolicy

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

ATTEMPT_TIMEOUT = timedelta(seconds=9)
_RETRY = RetryPolicy(attempts=3, delay=timedelta(seconds=0.5), max_delay=timedelta(seconds=5))
_ANNOUNCES = 0.1
_PARTNER = "http://partner/"
_DONE = Succeeded(content=b"done", content_type="text/plain", is_json=False)


@dataclass(frozen=True)
class SimulatedOperation:
    """An operation that calls the downstream of its own name."""

    cluster: "Cluster"
    name: str
    queue: Queue = Queue.IO
    description: str = ""
    timeout: timedelta = timedelta(seconds=60)
    attempt_timeout: timedelta = ATTEMPT_TIMEOUT
    retry: RetryPolicy = _RETRY
    admission: bool = False
    max_body: int = 1000
    content_types: tuple[str, ...] = ()

    @property
    def downstream(self) -> str:
        """The downstream that it calls."""
        return self.name

    @property
    def paced_by_calls(self) -> bool:
        """Whether each call takes a slot."""
        return self.name == "calls"

    @property
    def pass_headers(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def batch(self) -> Batch | None:
        """None: one job a call."""
        return None

    def input_schema(self) -> Mapping[str, Any] | None:
        """Any input is taken."""
        return None

    def check(self, body: Body) -> None:
        """Any input is taken."""

    def run_batch(self, members: Callable[[], Sequence[Member]], attempt: Attempt) -> BatchOutcome | Failed:
        """Never called."""
        raise NotImplementedError

    def run(self, body: Body, attempt: Attempt) -> Outcome:
        """Makes the calls of one attempt, as what is drawn for it says."""
        attempt.begin()
        if self.name == "polled":
            return self._work_on_it(body.content.decode(), attempt)
        world = self.cluster.world
        key = f"{body.content.decode()} {attempt.number}"
        if self.paced_by_calls:
            for number in range(2):
                attempt.slot()
                self._call(attempt, 0.1 + 0.3 * world.draw(f"seconds {key} {number}"))
        return self._behave(key, attempt)

    def _work_on_it(self, label: str, attempt: Attempt) -> Outcome:
        """Accepts the work and has it done after some polls, whose URL says how many are left. Some get no answer."""
        draw = self.cluster.world.draw
        left = 1 + int(4 * draw(f"polls {label}"))
        if attempt.poll_url is None:
            self.cluster.invariants.sends(attempt.job_id.replace("-", ""))
        else:
            left = int(attempt.poll_url.removeprefix(_PARTNER))
        key = f"{label} {attempt.number} {self._fence(attempt)}"
        self._call(attempt, 0.05 + 2 * draw(f"seconds {key}") ** 2)
        chance = 0.0 if self.cluster.is_healthy else draw(f"behaves {key}")
        if chance > 0.95:
            raise RuntimeError("simulated")
        if chance > 0.88:
            return TryAgain(code=ErrorCode.DOWNSTREAM_ERROR, message="simulated")
        if chance > 0.84:
            return Refused(message="simulated", retry_after=timedelta(seconds=1))
        if not left:
            return _DONE
        after = None if draw(f"after {key}") < 0.5 else timedelta(seconds=1 + draw(f"then {key}"))
        return Polls(url=f"{_PARTNER}{left - 1}", after=after)

    def _fence(self, attempt: Attempt) -> int:
        job = attempt.job_id.replace("-", "")
        return int(rows().ask("SELECT max(fence) AS fence FROM attempts WHERE job_id = ?", job)[0]["fence"] or 0)

    def _behave(self, key: str, attempt: Attempt) -> Outcome:
        if self.paced_by_calls:
            attempt.slot()
        draw = self.cluster.world.draw
        chance = 0.0 if self.cluster.is_healthy else draw(f"behaves {key}")
        seconds = 0.05 + 1.2 * draw(f"seconds {key}") ** 2
        if chance < 0.62:
            self._call(attempt, seconds)
            return replace(_DONE, quotas=self._announced(key))
        if chance < 0.78:
            self._call(attempt, 2 + 6.5 * draw(f"slow {key}"), reports=draw(f"reports {key}") < 0.6)
            return _DONE
        if chance < 0.82:
            # A lost call of a strict partition is over when its place is.
            longer = 1.5 if self.name in SHARED else 3
            self._call(attempt, ATTEMPT_TIMEOUT.total_seconds() + longer, reports=True)
            return _DONE
        self._call(attempt, seconds)
        if chance < 0.90:
            return TryAgain(code=ErrorCode.DOWNSTREAM_ERROR, message="simulated")
        if chance < 0.92:
            return Refused(message="simulated", retry_after=timedelta(seconds=1))
        if chance < 0.95:
            return Failed(code=ErrorCode.OPERATION_ERROR, message="simulated")
        raise RuntimeError("simulated")

    def _announced(self, key: str) -> tuple[Quota, ...]:
        """What the downstream announces as left of its quota with some of its answers, in a window of its own."""
        draw = self.cluster.world.draw
        if self.cluster.is_healthy or draw(f"announces {key}") > _ANNOUNCES:
            return ()
        window = timedelta(seconds=0.2 + 3 * draw(f"window {key}"))
        return (Quota(name="", left=int(4 * draw(f"left {key}")), resets_in=window),)

    def _call(self, attempt: Attempt, seconds: float, *, reports: bool = False) -> None:
        """One call; the downstream works on it to its end, even if its worker is killed meanwhile."""
        world, invariants = self.cluster.world, self.cluster.invariants
        task = world.task
        if task is None:
            raise RuntimeError("only a task can call")
        job = attempt.job_id.replace("-", "")
        found = rows().ask(
            "SELECT max(fence) AS fence FROM attempts WHERE job_id = ? AND worker = ?", job, task.process.name
        )
        call = Call(job, found[0]["fence"] or 0, self.name, task.process, world.now, world.now + seconds, True)
        invariants.call_begins(call)
        steps = 12 if reports else 1
        try:
            for step in range(steps):
                world.sleep(seconds / steps)
                if reports:
                    attempt.progress(step + 1, steps)
        finally:
            call.end = min(call.end, world.now)
