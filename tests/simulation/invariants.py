"""The invariants of the whole, in words and code. Each is checked the moment it could stop to hold, or at the end.

`RULES` has the words. What an onlooker knows that no process does (calls that are open at a downstream, who lives)
comes from the simulated world; what is committed comes from the rows.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from tests.simulation import batch_rules, fairness, own_limits
from tests.simulation.batch_plan import MOST
from tests.simulation.batch_rules import BatchRules
from tests.simulation.fairness import Fairness
from tests.simulation.own_limits import OwnLimits
from tests.simulation.stores import Change, rows
from tests.simulation.world import Broken, Process, World
from tidegate.operations.sharing import Sharing
from tidegate.rate import Rate
from tidegate.states import FINAL_STATES, MOVES, State

RULES = {
    "one outcome": "A job that is final stays as it is until it is erased.",
    "moves": "A job moves only from state to state as ARCHITECTURE draws it.",
    "fence": "An attempt that ends its job, or has it come back, is the one that the job's fence names.",
    "percent": "Percent never falls.",
    "versions": "A job's version never falls, and rises when its state changes.",
    "not lost": "A job that was accepted, and that its caller did not erase, has an end when everything is over.",
    "told true": "What was refused as not recorded is not recorded; nothing is recorded twice for one request.",
    "window": "No more calls begin at a downstream in any window than its rate allows.",
    "concurrency": "No more calls are open, and no more jobs accepted, at a downstream than its concurrency allows.",
    "accepted": "What a downstream has accepted is not sent again, once that is recorded.",
    "exact deadline": "No answer shows a job open after its deadline; none expires before, none succeeds after.",
    "cancelled": "After the answer that a job is cancelled no attempt at it begins.",
    "no leak": "When everything is over no place, lease or attempt is left.",
    "webhook": "The end of a job with a webhook is told at least once.",
    "live worker": "No job is taken from a worker that lives and works.",
    "in hand": "A running job of a live worker is worked on by it.",
    "in a row": "A breaker opens after as many failures in a row as it says, and no fewer.",
    "keeps moving": "When nothing goes wrong, a release is claimed, and a job that could go goes, within some seconds.",
    "paused": "A lane that an operator paused gets no call, but for what was released just before.",
    "not before": "No attempt begins before the instant that its caller asked for.",
    "no surprise": "Nothing is logged as an error that is not the operation's own.",
    **fairness.RULES,
    **own_limits.RULES,
    **batch_rules.RULES,
}

_SOON_SECONDS = 0.002
_BY_ITS_WORKER = (State.SUCCEEDED, State.FAILED, State.QUEUED)
_ROUNDED_SECONDS = 1e-6
_STUCK_SECONDS = 12.0
_RELEASED_AHEAD_SECONDS = 1.5


@dataclass
class Call:
    """A call at a downstream. `end`: when the downstream is through with it, whoever waits for it.

    Of one for many jobs also: its `members`, its `key`, since when it is known who takes part, and if that was surely
    told; what the downstream answered, to each or to all of them.
    """

    job: str
    fence: int
    downstream: str
    process: Process
    start: float
    end: float
    is_paced: bool
    members: tuple[tuple[str, int], ...] = ()
    key: str = ""
    checked_since: float = 0.0
    is_checked: bool = False
    is_bad: bool = False
    is_of_each: bool = False
    answers: Mapping[tuple[str, int], str] = field(default_factory=dict)

    @property
    def attempts(self) -> tuple[tuple[str, int], ...]:
        """The attempts that it is of."""
        return self.members or ((self.job, self.fence),)


@dataclass
class Asked:
    """What a caller knows of a job. `told`: accepted, refused, or "unknown"."""

    label: str
    told: str = "unknown"
    job: str | None = None
    cancelled_fence: int | None = None
    has_webhook: bool = False
    has_key: bool = False
    not_before: float = 0.0
    downstream: str = ""


@dataclass
class Invariants:
    """Watches one simulation. Each method takes in something that happened and raises Broken if it must not have."""

    world: World
    lease: float
    calls: list[Call] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    recorded: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The jobs that were recorded for each label of the plan, but for those that retry another."""
    erased: set[str] = field(default_factory=set)
    """Jobs that their callers asked to erase."""
    workers: dict[str, tuple[Process, Callable[[], Any]]] = field(default_factory=dict)
    """By worker's id: its process, and the attempts that it has in hand."""
    limits: dict[str, list[tuple[float, Mapping[str, Any]]]] = field(default_factory=lambda: defaultdict(list))
    quiet_from: float = float("inf")
    """From then on nothing goes wrong any more."""
    disturbed_until: float = 0.0
    """Until then windows can't be judged: the clock was set."""
    _failed_in_a_row: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _released_at: dict[tuple[str, int], float] = field(default_factory=dict)
    _missing_since: dict[tuple[str, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._fairness = Fairness(self.world, self.broken)
        self._own_limits = OwnLimits(self.broken)
        self.batches = BatchRules(self.world, self.broken)

    def share(self, sharings: Mapping[str, Sharing]) -> None:
        """Tells which downstreams are shared, and how."""
        self._fairness.share(sharings)

    def broken(self, rule: str, what: str) -> Broken:
        """The error to raise for a rule that does not hold."""
        self.world.tell(f"BROKEN {rule}: {what}")
        return Broken(f"{rule}: {RULES[rule]} {what}")

    def committed(self, changes: Sequence[Change]) -> None:
        """Rows were written."""
        for change in changes:
            if take_in := getattr(self, f"_{change.table}", None):
                take_in(change.before, change.after)
        self._fairness.committed(changes, is_disturbed=self.world.now < self.disturbed_until)
        ended = {
            (change.after["job_id"], change.after["fence"])
            for change in changes
            if change.table == "attempts" and _is_through(change.after) and not _is_through(change.before)
        }
        for before, after in ((change.before, change.after) for change in changes if change.table == "jobs"):
            comes_back = before.get("state") == State.RUNNING and after.get("state") in _BY_ITS_WORKER
            call = after.get("id"), before.get("fence")
            if comes_back and after["losses"] == before["losses"] and call not in ended:
                raise self.broken("fence", f"{call[0]} is {after['state']}, and its attempt {call[1]} goes on")

    def _jobs(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        if not before:
            self._recorded(after["id"])
            return
        if not after:
            self.world.tell(f"{before['id']} is erased")
            if before["id"] not in self.erased:
                raise self.broken("not lost", f"{before['id']} was erased, and nobody asked for it")
            if before["state"] not in FINAL_STATES:
                raise self.broken("not lost", f"{before['id']} was erased while it was {before['state']}")
            return
        self._moved(before, after)

    def _recorded(self, job: str) -> None:
        """Notes what a new job was asked for with, while its input is there."""
        self.world.tell(f"{job} is recorded")
        for row in rows().ask(
            "SELECT content FROM bodies JOIN jobs ON id = job_id WHERE id = ? AND kind = 'input' AND retry_of IS NULL",
            job,
        ):
            self.recorded[bytes(row["content"]).decode()].append(job)
            self.batches.recorded(job, bytes(row["content"]).decode())

    def _moved(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        name, was, now = after["id"], State(before["state"]), State(after["state"])
        self.batches.job_moved(before, after)
        if was is not now or before["fence"] != after["fence"]:
            self.world.tell(f"{name} {was} -> {now}, fence {after['fence']}, losses {after['losses']}")
        if was is not now:
            if was.is_final:
                raise self.broken("one outcome", f"{name} was {was} and is {now}")
            if now not in MOVES[was]:
                raise self.broken("moves", f"{name} went from {was} to {now}")
        if after["percent"] < before["percent"]:
            raise self.broken("percent", f"{name} fell from {before['percent']} to {after['percent']}")
        if after["version"] < before["version"] or (
            now.is_final and not was.is_final and after["version"] == before["version"]
        ):
            raise self.broken("versions", f"{name} is {now} in version {after['version']}, after {before['version']}")
        if now.is_final and not was.is_final:
            self._ended(name, now, after)
        if after["losses"] > before["losses"]:
            self._lost(name, before["fence"])

    def _ended(self, name: str, state: State, row: Mapping[str, Any]) -> None:
        if state is State.EXPIRED and row["finished_at"] < row["deadline"]:
            raise self.broken("exact deadline", f"{name} expired before its deadline")
        if state is State.SUCCEEDED and row["finished_at"] > row["deadline"]:
            raise self.broken("exact deadline", f"{name} succeeded after its deadline")

    def _lost(self, name: str, fence: int) -> None:
        """A loss is counted when a process died under a job; one that lives and is heard does not lose it."""
        found = rows().ask("SELECT worker FROM attempts WHERE job_id = ? AND fence = ?", name, fence)
        process, in_hand = self.workers.get(found[0]["worker"], (None, None)) if found else (None, None)
        if process is None or in_hand is None:
            return
        stood_still = self.world.now - process.frozen_until < self.lease and process.frozen_until > 0
        if not process.is_dead and not stood_still and (dashed(name), fence) in in_hand():
            raise self.broken("live worker", f"{name} was taken from {process.name}, which works on it")

    def _attempts(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        if not after:
            return
        if not before:
            self.world.tell(f"{after['job_id']}:{after['fence']} is released")
            self._released_at[after["job_id"], after["fence"]] = self.world.now
        elif before["ended_at"] is None and after["ended_at"] is not None:
            self.world.tell(f"{after['job_id']}:{after['fence']} ended: {after['outcome']}")
            lane = after["downstream"]
            if lane in MOST:
                self.batches.attempt_ended(after)
            if after["outcome"] == "handed back":
                self._handed_back(after["job_id"], after["fence"])
            if after["outcome"] == "succeeded":
                self._failed_in_a_row[lane] = 0
            elif after["outcome"] != "refused":  # a late failure counts, too
                self._failed_in_a_row[lane] += 1

    def _handed_back(self, job: str, fence: int) -> None:
        """A process that ends in order cuts off its calls. It is gone some milliseconds later; that is let pass."""
        for call in self.calls:
            if (job, fence) in call.attempts:
                call.end = min(call.end, self.world.now)

    def _downstreams(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        lane = after["name"]
        limit = {name: after[name] for name in ("concurrency", "rates", "burst", "paused")}
        if not self.limits[lane] or self.limits[lane][-1][1] != limit:
            self.limits[lane].append((self.world.now, limit))
        opens = 0 < after["breaker_after"] <= after["failures"] and after["failures"] > before.get("failures", 0)
        if opens and self._failed_in_a_row[lane] < after["breaker_after"]:
            row = self._failed_in_a_row[lane]
            raise self.broken("in a row", f"{lane}'s breaker opens after {row} failures in a row")

    def sends(self, job: str) -> None:
        """A job's call goes out, which is no poll."""
        if found := rows().ask("SELECT poll_url FROM jobs WHERE id = ? AND poll_url IS NOT NULL", job):
            raise self.broken("accepted", f"{job} is sent again, and is to be asked for at {found[0]['poll_url']}")

    def batch_begins(self, call: Call) -> None:
        """A call for many jobs reaches a downstream. It counts as one, of the job that has their place."""
        leads = [
            (job, fence)
            for job, fence in call.members
            if rows().ask("SELECT 1 FROM attempts WHERE job_id = ? AND fence = ? AND follows_job IS NULL", job, fence)
        ]
        call.job, call.fence = (leads or call.members)[0]
        self.call_begins(call)
        self.world.tell(f"it is of {' '.join(job for job, _ in call.members)}", call.process.name)
        self.batches.call_begins(call)

    def call_begins(self, call: Call) -> None:
        """A call reaches a downstream."""
        self.world.tell(f"{call.job}:{call.fence} calls {call.downstream}", call.process.name)
        now = self.world.now
        fences = dict(call.attempts)
        for each in self.asked:
            fence = fences.get(each.job or "")
            if fence is not None and each.cancelled_fence is not None and fence > each.cancelled_fence:
                raise self.broken("cancelled", f"{each.job} was cancelled and is called")
            if fence is not None and now < each.not_before - _SOON_SECONDS and now > self.disturbed_until:
                raise self.broken("not before", f"{each.job} is called {each.not_before - now:.3f} s early")
        self.calls.append(call)
        paused = [
            limit["paused"] for _, limit in _in_force(self.limits[call.downstream], now - _RELEASED_AHEAD_SECONDS)
        ]
        if all(paused):
            raise self.broken("paused", f"{call.job} calls {call.downstream}")
        known = self.limits[call.downstream]
        opened = [each for each in self.calls if each.downstream == call.downstream and each.end > now]
        accepted = {
            (row["id"], row["place_fence"])
            for row in rows().ask(
                "SELECT id, place_fence FROM jobs"
                " WHERE downstream = ? AND poll_url IS NOT NULL AND finished_at IS NULL",
                call.downstream,
            )
            if row["id"] not in {each.job for each in opened}
        }
        held = [(each.job, each.fence) for each in opened] + sorted(accepted)
        since = min(self._released_at.get(each, 0.0) for each in held)
        allowed = [limit["concurrency"] for at, limit in _in_force(known, since)]
        if None not in allowed and len(held) > max(allowed):
            raise self.broken("concurrency", f"{len(held)} calls open at {call.downstream}, of {max(allowed)}")
        if call.is_paced and now > self.disturbed_until:
            self._check_windows(call, known)
        for job, fence in call.attempts:
            self._fairness.call_begins(job, fence, call.downstream)
        if lane := self._fairness.lanes.get(call.downstream):
            released_at = self._released_at.get((call.job, call.fence), 0.0)
            wall = self.world.wall().timestamp()
            self._own_limits.call_begins(call, lane, released_at, now=wall, disturbed=self.disturbed_until)

    def _check_windows(self, call: Call, known: Sequence[tuple[float, Mapping[str, Any]]]) -> None:
        starts = [
            each.start
            for each in self.calls
            if each.downstream == call.downstream and each.is_paced and each.start >= self.disturbed_until
        ]
        if known[-1][0] > call.start - _RELEASED_AHEAD_SECONDS:
            return  # its slot may have been given while the rates were others
        for text in orjson.loads(known[-1][1]["rates"]):
            rate = Rate.parse(text)
            begins = call.start - rate.period / 1e6 + _ROUNDED_SECONDS
            count = sum(begins < start <= call.start for start in starts)
            if count > rate.calls:
                raise self.broken("window", f"{count} calls at {call.downstream} within {text}")

    def answered(self, asked: Asked, state: State, deadline: float, seen: float) -> None:
        """A caller was shown a job. Instants in microseconds, of the database's clock."""
        if not state.is_final and seen >= deadline:
            raise self.broken("exact deadline", f"{asked.label} was shown {state} after its deadline")

    def fence_of(self, job: str) -> int:
        """The fence of a job's last release."""
        found = rows().ask("SELECT fence FROM jobs WHERE id = ?", job)
        return int(found[0]["fence"]) if found else 10**9

    def second(self) -> None:
        """Once a second: what runs is worked on."""
        now, missing = self.world.now, {}
        found = rows().ask(
            "SELECT jobs.id, jobs.fence, attempts.worker FROM jobs JOIN attempts ON attempts.job_id = jobs.id"
            " AND attempts.fence = jobs.fence WHERE jobs.state = 'running'"
        )
        for row in found:
            process, in_hand = self.workers.get(row["worker"], (None, None))
            if process is None or in_hand is None or now < process.frozen_until:
                continue
            if process.is_dead:
                if now > max(process.died_at, self.quiet_from) + 2 * self.lease + _STUCK_SECONDS:
                    raise self.broken("keeps moving", f"{row['id']} runs on {process.name}, which is dead")
                continue
            call = row["id"], row["fence"]
            if (dashed(row["id"]), row["fence"]) not in in_hand():
                missing[call] = self._missing_since.get(call, now)
                if now - missing[call] > 2 * self.lease + 4:
                    raise self.broken("in hand", f"{call[0]} runs in nobody's hands since {missing[call]:.1f} s")
        self._missing_since = missing
        if now > self.quiet_from + _STUCK_SECONDS:
            self._keeps_moving()

    def _keeps_moving(self) -> None:
        now = (self.world.wall().timestamp() - _STUCK_SECONDS) * 1e6
        if stuck := rows().ask("SELECT id FROM jobs WHERE state = 'queued' AND slot_at < ?", now):
            raise self.broken("keeps moving", f"nobody claims {stuck[0]['id']}")
        waiting = rows().ask(
            "SELECT min(id) AS id, downstream, partition FROM jobs JOIN downstreams ON name = downstream"
            " WHERE state = 'queued' AND slot_at IS NULL AND run_at < ? AND NOT paused"
            " AND coalesce(paused_until, 0) < ? AND rates NOT LIKE '%/m%'"
            # Nothing could go where each place is kept by a job whose next poll was not due by then.
            " AND (concurrency IS NULL OR concurrency > (SELECT count(*) FROM jobs AS kept WHERE kept.downstream = name"
            " AND kept.place_fence IS NOT NULL AND kept.finished_at IS NULL AND kept.run_at >= ?))"
            " GROUP BY downstream, partition",
            now,
            now,
            now,
        )
        for row in waiting:
            lane, shared = row["downstream"], self._fairness.lanes.get(row["downstream"])
            if shared and row["partition"] in shared.paused:  # who would have let it go on was not answered
                continue
            if not any(call.downstream == lane and call.end > self.world.now - _STUCK_SECONDS for call in self.calls):
                raise self.broken("keeps moving", f"{row['id']} waits, and nothing goes to {lane}")

    def over(self, delivered: Mapping[str, Sequence[str]]) -> None:
        """Everything is over: what must be, and what must not be left."""
        for label in sorted({each.label for each in self.asked if each.has_key}):
            if len(self.recorded[label]) > 1:
                raise self.broken("told true", f"{label} is recorded twice under one key")
        states = {row["id"]: State(row["state"]) for row in rows().ask("SELECT id, state FROM jobs")}
        for each in self.asked:
            if (
                each.told == "refused"
                and self.recorded[each.label]
                and not any(
                    other.job in self.recorded[each.label] or other.told == "unknown"
                    for other in self.asked
                    if other.label == each.label and other is not each
                )
            ):
                raise self.broken("told true", f"{each.label} was refused as not recorded, and is")
            if each.told == "accepted" and each.job not in self.erased:
                state = states.get(each.job or "")
                if state is None or not state.is_final:
                    raise self.broken("not lost", f"{each.label} ({each.job}) is {state or 'gone'}")
                if each.has_webhook and not delivered.get(dashed(each.job or "")):
                    raise self.broken("webhook", f"the end of {each.label} was never told")
        for what, sql in _LEFT.items():
            if left := rows().ask(sql):
                raise self.broken("no leak", f"{what} is left: {dict(left[0])}")


_LEFT = {
    "a place": "SELECT job_id, fence, downstream, worker FROM attempts WHERE ended_at IS NULL",
    "a lease": "SELECT id, state FROM jobs WHERE lease_until IS NOT NULL OR slot_at IS NOT NULL",
    "an attempt of an erased job": "SELECT job_id FROM attempts WHERE job_id NOT IN (SELECT id FROM jobs)",
}


def _in_force(
    known: Sequence[tuple[float, Mapping[str, Any]]], since: float
) -> Sequence[tuple[float, Mapping[str, Any]]]:
    """The limits that were in force at some time since then."""
    first = max((number for number, (at, _) in enumerate(known) if at <= since), default=0)
    return known[first:]


def _is_through(attempt: Mapping[str, Any]) -> bool:
    """Whether its call has ended. The place of one that was accepted is kept."""
    return bool(attempt.get("ended_at")) or attempt.get("outcome") == "polls"


def dashed(job: str) -> str:
    """A job's id as the product writes it, of the id as SQLite has it."""
    return str(UUID(job))
