"""Whether calls of shared downstreams go in turns, judged from committed rows alone: no more than that, and exactly.

What is held against the contract is its bound, in a form that needs one of two to be able to go. While somebody could
go, another gets no more than a turn of each ahead of it, wherever it comes from: who was idle has no credit, who comes
back owes what it owed, and nobody starves. A choice that makes good a turn that was given back counts for nothing.
Whether somebody could have gone is judged cautiously: where that is not sure, nothing is demanded on its behalf.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

import orjson

from tests.simulation.stores import Change
from tests.simulation.world import BEGINNING, World
from tidegate.operations.sharing import PartitionLimits, Sharing, key_of, named_by
from tidegate.states import FINAL_STATES, State

RULES = {
    "fair": "While one that shares a downstream could go, no other gets more than a turn of each ahead of it.",
    "given back": "A turn is given back once for each call that was surely not made, and for no other.",
    "own pause": "A partition that an operator paused gets no turn.",
    "order of turns": "The number of a turn rises with each choice, and none is given twice.",
}

# Who has jobs is seen by all gates by then, even if the message was lost.
_SEEN_SECONDS = 3.0
# A slot of its own rate comes no later than this behind its distance from the one before.
_MARGIN = 50_000
_ROUNDING = Fraction(1, 10**12)


@dataclass
class _Waiting:
    partition: str
    since: float
    run_at: int
    rank_at: int
    losses: int
    deadline: int


@dataclass
class _Open:
    partition: str


@dataclass
class _Choice:
    """A turn that a release took: by which job, when its slot is, and when the gate had looked."""

    job: str
    key: str
    turn: int
    slot_at: int
    read_at: float
    is_follower: bool


@dataclass
class _Bound:
    """How far each is ahead of each other, among the clients of a downstream or the partitions of one client."""

    ahead: dict[tuple[str, str], Fraction] = field(default_factory=lambda: defaultdict(Fraction))

    def forget(self, name: str | None = None) -> None:
        """Nothing is demanded for what was until now: of one, or of all."""
        for pair in [pair for pair in self.ahead if name is None or name in pair]:
            del self.ahead[pair]

    def chosen(
        self, name: str, able: Sequence[str], names: Sequence[str], weight: Callable[[str], float], *, pays: bool
    ) -> str | None:
        """Counts a choice beside those that could go; what it is too far ahead of, as a sentence."""
        for other in names:
            if other not in able:  # demands nothing for itself
                for each in names:
                    self.ahead.pop((each, other), None)
        if not pays:
            return None
        turn = 1 / Fraction(weight(name))
        for other in names:
            if other == name:
                continue
            self.ahead[other, name] = max(Fraction(0), self.ahead[other, name]) - turn
            if other in able:
                ahead = self.ahead[name, other] = max(Fraction(0), self.ahead[name, other]) + turn
                bound = turn + 1 / Fraction(weight(other))
                if ahead > bound + _ROUNDING:
                    return f"{name!r} is {float(ahead)} ahead of {other!r}, of {float(bound)}"
        return None


@dataclass
class SharedLane:
    """What is committed of a shared downstream."""

    sharing: Sharing
    turns: int = 0
    last: int = 0
    known: set[str] = field(default_factory=set)
    waiting: dict[str, _Waiting] = field(default_factory=dict)
    opened: dict[tuple[str, int], _Open] = field(default_factory=dict)
    ended: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    slots: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    changed: dict[str, float] = field(default_factory=dict)
    history: dict[str, list[tuple[float, PartitionLimits]]] = field(default_factory=lambda: defaultdict(list))
    """By partition's key: limits that were changed, and since when they are in force."""
    unfinished: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """By partition's key: jobs without an end in the order of their submit, and their deadlines."""
    overlays: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    returned: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """By partition's key, and by client's name."""
    weights: dict[str, float] = field(default_factory=dict)
    left: list[tuple[float, str]] = field(default_factory=list)
    """Of jobs that waited and were moved by others than a release: when, and their partition."""
    of_clients: _Bound = field(default_factory=_Bound)
    of_partitions: dict[str, _Bound] = field(default_factory=lambda: defaultdict(_Bound))

    def limits(self, key: str) -> PartitionLimits:
        """The limits in force of a partition."""
        return self.sharing.limits_of(named_by(key)[1]).changed(self.overlays.get(key, {}))

    def weight(self, key: str) -> float:
        """The weight of a partition within its client. That of the one without a name is its client's."""
        return self.limits(key).weight if named_by(key)[1] else 1.0

    def weight_of_client(self, client: str) -> float:
        """The weight of a client."""
        return self.weights.get(client, 1.0)


class Fairness:
    """Watches the shared downstreams of one simulation. `broken`: makes the error of a rule that does not hold."""

    def __init__(self, world: World, broken: Callable[[str, str], BaseException]) -> None:
        self._world = world
        self._broken = broken
        self.lanes: dict[str, SharedLane] = {}
        self._called: set[tuple[str, int]] = set()

    def share(self, sharings: Mapping[str, Sharing]) -> None:
        """Tells which downstreams are shared, and how."""
        self.lanes = {name: SharedLane(sharing) for name, sharing in sharings.items()}

    def call_begins(self, job: str, fence: int, downstream: str) -> None:
        """A call of this attempt was made."""
        self._called.add((job, fence))
        if (lane := self.lanes.get(downstream)) and (found := lane.opened.get((job, fence))):
            lane.slots[found.partition].append(round(self._world.wall().timestamp() * 1e6))  # it may have been late

    def committed(self, changes: Sequence[Change], *, is_disturbed: bool) -> None:
        """Rows were written in one transaction. `is_disturbed`: instants can't be believed, for a clock was set."""
        for name, lane in self.lanes.items():
            own = [each for each in changes if _lane_of(each) == name]
            if own:
                self._lane_committed(name, lane, own, is_disturbed=is_disturbed)

    def _lane_committed(self, name: str, lane: SharedLane, changes: Sequence[Change], *, is_disturbed: bool) -> None:
        choices = sorted(
            (
                self._choice(each.after)
                for each in changes
                if each.table == "attempts" and not each.before and each.after["turn"] is not None
            ),
            key=lambda choice: choice.turn,
        )
        before = lane.turns
        chosen = {choice.job for choice in choices}
        released = {each.after["job_id"] for each in changes if each.table == "attempts" and not each.before}
        ended: list[tuple[str, bool, bool]] = []
        for each in changes:
            if each.table == "jobs":
                self._job(lane, each.before, each.after, chosen, released)
            elif each.table == "attempts":
                ended += self._attempt(lane, each.before, each.after)
            elif each.table == "downstreams" and each.after:
                lane.turns = each.after["turns"]
            elif each.table in {"partitions", "shared_clients"}:
                self._limits(lane, each.table, each.before, each.after)
        missing = lane.turns - before - len(choices) if choices else 0
        whose = self._whose_are_missing(lane, choices) if missing else None
        if not missing or whose is not None:
            lost = [whose] * missing if whose is not None else []
            self._given_back(lane, [choice.key for choice in choices], lost, ended, dict(_returned(changes)))
        if choices:
            self._check_order(lane, choices)
            if is_disturbed or missing:
                self._forget(lane)
            else:
                self._judge(name, lane, choices)
            for choice in choices:
                lane.waiting.pop(choice.job, None)
        for key, value in _returned(changes):
            lane.returned[key] = value

    def _check_order(self, lane: SharedLane, choices: Sequence[_Choice]) -> None:
        numbers = [lane.last, *(choice.turn for choice in choices)]
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            raise self._broken("order of turns", f"{numbers}")
        lane.last = numbers[-1]
        if lane.last > lane.turns:
            raise self._broken("order of turns", f"turn {lane.last} is beyond {lane.turns}")
        for choice in choices:
            if choice.key in lane.paused:
                raise self._broken("own pause", f"turn {choice.turn} is of {choice.key!r}")

    def _forget(self, lane: SharedLane) -> None:
        lane.of_clients.forget()
        for bound in lane.of_partitions.values():
            bound.forget()

    def _choice(self, row: Mapping[str, Any]) -> _Choice:
        return _Choice(
            row["job_id"],
            row["partition"],
            row["turn"],
            row["slot_at"],
            row["released_at"] / 1e6 - BEGINNING.timestamp() - self._world.clock_step.total_seconds(),
            row["follows_job"] is not None,
        )

    def _job(
        self,
        lane: SharedLane,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        chosen: set[str],
        released: set[str],
    ) -> None:
        job = (after or before)["id"]
        if key := (after or before)["partition"]:
            if after and after["state"] not in FINAL_STATES:
                lane.unfinished[key][job] = after["deadline"]
            else:
                lane.unfinished[key].pop(job, None)
        was = lane.waiting.pop(job, None)
        if after and after["state"] == State.QUEUED and after["slot_at"] is None and after["partition"] is not None:
            told = (after["partition"], after["run_at"], after["rank_at"], after["losses"], after["deadline"])
            is_same = was is not None and told == (was.partition, was.run_at, was.rank_at, was.losses, was.deadline)
            lane.waiting[job] = _Waiting(
                after["partition"],
                was.since if was and is_same else self._world.now,
                after["run_at"],
                after["rank_at"],
                after["losses"],
                after["deadline"],
            )
        elif was is not None and job in chosen:
            lane.waiting[job] = was  # until it is judged
        elif was is not None and job not in released:  # nor one that goes along in another's call
            lane.left.append((self._world.now, was.partition))

    def _attempt(
        self, lane: SharedLane, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> Sequence[tuple[str, bool, bool]]:
        """Takes in an attempt; where it ended: its partition, whether it was claimed, and whether a call was made."""
        row = after or before
        call, key = (row["job_id"], row["fence"]), row["partition"]
        if key is None:
            lane.opened.pop(call, None)  # its turn was passed to another of its batch
            return []
        if after:
            lane.slots[key].append(after["slot_at"])
        if after and after["ended_at"] is None:
            lane.opened[call] = _Open(key)
            return []
        if lane.opened.pop(call, None) is None:
            return []
        lane.ended[key].append(self._world.now)
        return [(key, row["claimed_at"] is not None, call in self._called)] if after else []

    def _limits(self, lane: SharedLane, table: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        row = after or before
        if table == "shared_clients":
            weight = after["weight"] if after else 1.0
            if weight != lane.weight_of_client(row["client"]):
                lane.weights[row["client"]] = weight
                lane.of_clients.forget(row["client"])
            return
        key = key_of(row["client"], row["name"])
        was = lane.limits(key)
        lane.overlays[key] = orjson.loads(after["changes"]) if after else {}
        lane.paused.discard(key)
        if after and after["paused"]:
            lane.paused.add(key)
        if lane.limits(key) != was:
            lane.changed[key] = self._world.now
            lane.history[key].append((self._world.now, lane.limits(key)))
            lane.of_partitions[row["client"]].forget(key)

    def _given_back(
        self,
        lane: SharedLane,
        chosen: Sequence[str],
        lost: Sequence[str],
        ended: Sequence[tuple[str, bool, bool]],
        told: Mapping[str, int],
    ) -> None:
        """Checks what a transaction says of turns to get back, of each partition and each client.

        `chosen`, `lost`: the partitions of the jobs that went, and of those that were chosen and had moved.
        """
        before, partitions = lane.returned, [*chosen, *(key for key, *_ in ended)]
        for key in sorted({each for name in partitions for each in (name, named_by(name)[0])} | told.keys()):

            def of(names: Iterable[str], key: str = key) -> int:
                return sum(key in {name, named_by(name)[0]} for name in names)

            left = max(0, before[key] - of(chosen) - of(lost)) + of(lost)
            surely = of(name for name, is_claimed, _ in ended if not is_claimed)
            perhaps = of(name for name, is_claimed, is_called in ended if is_claimed and not is_called)
            found = told.get(key, before[key])
            if not left + surely <= found <= left + surely + perhaps:
                raise self._broken("given back", f"{found} turns of {key!r} are to get back, of {left + surely}")

    def _whose_are_missing(self, lane: SharedLane, choices: Sequence[_Choice]) -> str | None:
        """The partition whose jobs were chosen and had moved before it was written, if it can only be one."""
        since = min((choice.read_at for choice in choices), default=0.0)
        lane.left = [each for each in lane.left if each[0] > self._world.now - 60]
        moved = {key for at, key in lane.left if at >= since - 0.01}
        return next(iter(moved)) if len(moved) == 1 else None

    def _judge(self, name: str, lane: SharedLane, choices: Sequence[_Choice]) -> None:
        lane.known |= {each.partition for each in lane.waiting.values()} | {choice.key for choice in choices}
        keys = sorted(lane.known)
        clients = sorted({named_by(key)[0] for key in keys})
        left = dict(lane.returned)
        for number, choice in enumerate(choices):
            able = [key for key in keys if self._could_go(lane, key, choices, number)]
            client = named_by(choice.key)[0]
            of_client = [key for key in keys if named_by(key)[0] == client]
            of_clients = sorted({named_by(key)[0] for key in able})
            for bound, who, those, all_, weight in (
                (lane.of_clients, client, of_clients, clients, lane.weight_of_client),
                (lane.of_partitions[client], choice.key, able, of_client, lane.weight),
            ):
                pays = left.get(who, 0) == 0
                left[who] = max(0, left.get(who, 0) - 1)
                if what := bound.chosen(who, those, all_, weight, pays=pays):
                    raise self._broken("fair", f"{name}, turn {choice.turn}: {what}")
            lane.waiting.pop(choice.job, None)  # what goes later stands for its partition until then

    def _could_go(self, lane: SharedLane, key: str, choices: Sequence[_Choice], number: int) -> bool:
        """Whether it is sure that a partition could have gone in place of this choice."""
        choice, limits = choices[number], lane.limits(key)
        if key in lane.paused or lane.changed.get(key, -1e9) > choice.read_at - _SEEN_SECONDS:
            return False
        jobs = [(each.rank_at, job, each) for job, each in lane.waiting.items() if each.partition == key]
        now = self._world.wall().timestamp() * 1e6
        if any(each.deadline <= now + 1e6 for *_, each in jobs):
            return False
        heads = [min(jobs)[2]] if jobs and limits.is_strict else [each for *_, each in jobs]
        ready_at = now - (self._world.now - choice.read_at + _SEEN_SECONDS) * 1e6
        if not any(
            each.losses == 0 and each.run_at <= ready_at and each.since <= choice.read_at - _SEEN_SECONDS
            for each in heads
        ):
            return False
        chosen = [each for each in choices[:number] if each.key == key]
        most_open = most_open_of(limits)
        if most_open is not None:
            own = {each.job for each in choices}
            opened = sum(each.partition == key and job not in own for (job, _), each in lane.opened.items())
            just = sum(at >= choice.read_at - 0.01 for at in lane.ended[key])
            if opened + just + len(chosen) >= most_open:
                return False
        return not limits.rates or (not choice.is_follower and _has_slot(lane, limits, choices[number:], key))


def _has_slot(lane: SharedLane, limits: PartitionLimits, later: Sequence[_Choice], key: str) -> bool:
    """Whether a partition's own rates surely allow a call at the slot of the first of these choices."""
    own = {each.slot_at for each in later if each.key == key}
    distance = max(_distance(text) for text in limits.rates) + _MARGIN
    return not any(slot > later[0].slot_at - distance for slot in lane.slots[key] if slot not in own)


def most_open_of(limits: PartitionLimits) -> int | None:
    """How many calls of a partition may be open at once; None: any number."""
    return 1 if limits.is_strict else limits.concurrency


def _distance(text: str) -> int:
    """How far apart two calls of a rate are at least (microseconds)."""
    number, _, unit = text.partition("/")
    return round({"s": 1e6 + 20_000, "m": 60e6 + 20_000}[unit] / int(number))


def _lane_of(change: Change) -> str | None:
    row = change.after or change.before
    return row.get("name") if change.table == "downstreams" else row.get("downstream")


def _returned(changes: Sequence[Change]) -> Sequence[tuple[str, int]]:
    """What rows say of turns to get back after a transaction, by partition's key and by client's name."""
    return [
        (
            key_of(row["client"], row["name"]) if each.table == "partitions" else row["client"],
            each.after["returned"] if each.after else 0,
        )
        for each in changes
        if each.table in {"partitions", "shared_clients"}
        for row in [each.after or each.before]
    ]
