"""Whether batches keep what is said of them, judged from what their downstream sees and what is committed."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tests.simulation.batch_plan import BAD, MOST
from tests.simulation.stores import rows
from tests.simulation.world import World
from tidegate.states import FINAL_STATES

if TYPE_CHECKING:
    from tests.simulation.invariants import Call

RULES = {
    "one place": "The jobs of a call have one place together, and where partitions take turns one turn.",
    "one partition": "The jobs of a call are of one partition and of one operation, and no more than it takes.",
    "left out": "No job is called that had its end, or was to be cancelled, before the last look at who takes part.",
    "same key": "Calls under one key are for the same jobs, and calls for the same jobs have one key.",
    "together": "Halves, and a whole that goes again, are joined by nobody.",
    "its own": "What is recorded of a job is what its call's answer says of this job, and its result is its own.",
    "halves end": "A job that fails each call it is in fails alone, after as many halves as its batch has.",
}
_BY_ANSWER = frozenset({"succeeded", "failed", "error", "refused", "halved"})


class BatchRules:
    """Watches the calls for many jobs. `broken`: makes the error of a rule that does not hold."""

    def __init__(self, world: World, broken: Callable[[str, str], BaseException]) -> None:
        self._world = world
        self._broken = broken
        self._calls: dict[tuple[str, int], Call] = {}
        self._jobs_of: dict[str, tuple[str, ...]] = {}
        self._key_of: dict[tuple[str, ...], str] = {}
        self._number: Counter[str] = Counter()
        self._together: dict[str, frozenset[str]] = {}
        self._halved: Counter[str] = Counter()
        self._over_at: dict[str, float] = {}
        self._bad: set[str] = set()

    def calls_of(self, call: "Call") -> int:
        """How many calls had this key before."""
        return self._number[call.key]

    def recorded(self, job: str, label: str) -> None:
        """A job was recorded for this label."""
        if label.endswith(BAD):
            self._bad.add(job)

    def call_begins(self, call: "Call") -> None:
        """A call for many jobs begins; its lead is named."""
        jobs = tuple(job for job, _ in call.members)
        self._number[call.key] += 1
        if self._jobs_of.setdefault(call.key, jobs) != jobs:
            raise self._broken("same key", f"{call.key} was of {self._jobs_of[call.key]}, and is of {jobs}")
        if self._key_of.setdefault(jobs, call.key) != call.key:
            raise self._broken("same key", f"{jobs} had {self._key_of[jobs]}, and have {call.key}")
        for job, fence in call.members:
            self._calls[job, fence] = call
            if not self._together.get(job, frozenset(jobs)).issuperset(jobs):
                raise self._broken("together", f"{job} goes with {jobs}, and went with {sorted(self._together[job])}")
            if call.is_checked and len(jobs) > 1 and self._over_at.get(job, call.start) < call.checked_since:
                raise self._broken("left out", f"{job} is called, and was over at {self._over_at[job]:.4f}")
        self._check_place(call)

    def _check_place(self, call: "Call") -> None:
        which = ",".join(f"('{job}', {fence})" for job, fence in call.members)
        found = rows().ask(
            "SELECT jobs.partition, jobs.operation, attempts.follows_job, attempts.partition AS its, attempts.turn,"  # noqa: S608 - our own ids
            " attempts.ended_at, jobs.state = 'running' AND jobs.fence = attempts.fence AS runs"
            " FROM attempts JOIN jobs ON jobs.id = attempts.job_id"
            f" WHERE (attempts.job_id, attempts.fence) IN (VALUES {which})"
        )
        kinds = {(row["partition"], row["operation"]) for row in found}
        if len(kinds) > 1 or len(call.members) > MOST[call.downstream]:
            raise self._broken("one partition", f"{len(call.members)} jobs of {sorted(kinds)} are called together")
        heads = [row for row in found if row["follows_job"] is None and row["ended_at"] is None]
        is_sure = len(found) == len(call.members) and all(row["runs"] and row["ended_at"] is None for row in found)
        if len(heads) > 1 or (is_sure and not heads):
            raise self._broken("one place", f"{len(heads)} places of {call.members}")
        if is_sure and heads[0]["partition"] is not None and heads[0]["its"] is None:
            raise self._broken("one place", f"no turn of {call.members}")

    def job_moved(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """A job was written."""
        job = after["id"]
        if after["state"] in FINAL_STATES or after["cancel_requested"]:
            self._over_at.setdefault(job, self._world.now)
        if after["state"] == "succeeded" != before["state"] and after["downstream"] in MOST:
            found = rows().ask("SELECT kind, content FROM bodies WHERE job_id = ?", job)
            contents = {row["kind"]: bytes(row["content"]) for row in found}
            if job in self._bad:
                raise self._broken("halves end", f"{job} succeeded")
            if "input" in contents and contents.get("result") != contents["input"]:
                raise self._broken("its own", f"{job} has the result {contents.get('result')!r}")

    def attempt_ended(self, row: Mapping[str, Any]) -> None:
        """An attempt of a downstream with batches has ended."""
        job, word, call = row["job_id"], row["outcome"], self._calls.get((row["job_id"], row["fence"]))
        if word == "left out":
            self._together.pop(job, None)
        if word not in _BY_ANSWER:
            return
        if call is None:
            raise self._broken("its own", f"{job}:{row['fence']} has {word!r}, and was not called")
        answer = call.answers.get((job, row["fence"]), "error")  # until there is one its time may be over
        if word != answer:
            raise self._broken("its own", f"{job}:{row['fence']} has {word!r}, and the answer to it was {answer!r}")
        jobs = [each for each, _ in call.members]
        if call.is_of_each:
            self._together.pop(job, None)
        elif word == "halved":
            middle = len(jobs) // 2
            self._together[job] = frozenset(jobs[:middle] if job in jobs[:middle] else jobs[middle:])
        else:
            self._together[job] = frozenset(jobs)
        if job in self._bad:
            self._halved[job] += word == "halved"
            if word == "failed" and len(jobs) > 1:
                raise self._broken("halves end", f"{job} failed with {jobs}")
            if 2 ** (self._halved[job] - 1) >= MOST[row["downstream"]]:
                raise self._broken("halves end", f"{job} was halved {self._halved[job]} times")
