"""The plan of a simulation: requests, changes of limits, and what goes wrong, each with its time."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.simulation.batch_plan import batched

WEBS = ("web-1", "web-2")
SCHEDULERS = ("scheduler-1", "scheduler-2")
WORKERS = ("io-1", "io-2", "cpu-1")
SENDERS = ("webhooks-1",)
LONG_SECONDS = 28.0
"""After so long nothing new happens and nothing goes wrong any more."""
OPERATIONS = ("steady", "narrow", "calls", "free", "polled")
SHARED = {
    "shared": ("", "heavy", "light", "rated", "single", "ordered"),
    "tenants": ("", "heavy", "light", "ordered"),
}
"""Operations whose downstreams have partitions, with the names of these."""
CLIENTS = ("client-1", "client-2", "client-3")
ORDERED = "ordered"
"""The name of partitions that keep the order of submit."""
_HAS_SHARED = 0.4


@dataclass(frozen=True)
class Step:
    """One thing that happens: what, when, and to what. It can be left out of a plan, and the rest stays the same."""

    at: float
    what: str
    who: str
    detail: tuple[object, ...] = ()

    def __str__(self) -> str:
        detail = " ".join(str(each) for each in self.detail)
        return f"{self.at:7.3f} {self.what} {self.who} {detail}".rstrip()


def plan_of(seed: int, jobs: int | None = None) -> Sequence[Step]:
    """The plan of a seed: so many jobs, else ten to a hundred, and up to twenty things that go wrong."""
    chance = random.Random(seed)  # noqa: S311 - a seed is what it is for
    together = [chance.choice((5, 12, 25)) for _ in range(chance.randrange(4))]
    if jobs is not None:
        together = [jobs // 2]
    alone = chance.randrange(5, 30) if jobs is None else jobs - sum(together)
    steps = [step for number in range(alone) for step in _job(chance, f"job-{number}")]
    for number, size in enumerate(together):
        steps += _burst(chance, number, size)
    for _ in range(chance.randrange(4)):
        steps.append(_operator(chance))
    faults = chance.sample(_FAULTS, k=chance.randrange(7))
    for fault in faults:
        for _ in range(chance.choice((1, 1, 2, 4))):
            steps.append(fault(chance))
    if jobs is None:
        steps += _shared(random.Random(f"shared {seed}"))  # noqa: S311 - so what was planned before stays the same
        chance = random.Random(f"batched {seed}")  # noqa: S311
        steps += [Step(*step) for step in batched(chance, _when(chance) / 2, WEBS, CLIENTS)]
    return sorted(steps, key=lambda step: step.at)


def _shared(chance: random.Random) -> list[Step]:
    """In two of five plans: clients fill a shared lane at about the same time, and operators change their shares."""
    if chance.random() > _HAS_SHARED:
        return []
    lane = chance.choice([*SHARED])
    at = _when(chance) / 2
    pairs = [(client, name) for client in CLIENTS[: chance.choice((1, 2, 3))] for name in SHARED[lane]]
    steps: list[Step] = []
    for number, (client, name) in enumerate(chance.sample(pairs, k=min(len(pairs), chance.randrange(2, 6)))):
        begins = at + chance.choice((0.0, 0.0, 0.0, 0.01, 4.0))
        labels = tuple(f"{lane}-{number}-{each}" for each in range(chance.choice((3, 10, 20))))
        steps += _fills(chance, round(begins, 3), lane, (client, name), labels)
        for _ in range(chance.choice((0, 0, 1))):
            steps.append(_share_changes(chance, begins, lane, client, name))
    return steps


def _fills(chance: random.Random, at: float, lane: str, whose: tuple[str, str], labels: tuple[str, ...]) -> list[Step]:
    """Many jobs of a partition, some of which are cancelled, have little time, or may not run at once."""
    client, name = whose
    web, timeout, few = chance.choice(WEBS), chance.choice((60.0, 60.0, 9.0)), chance.randrange(1, 4)
    parts = [(labels[few:], 0.0, timeout), (labels[:few], chance.choice((0.0, 2.0)), 60.0)]
    steps = []
    for some, later, its_timeout in parts if chance.random() < 0.5 else parts[::-1]:
        priority = None if name == ORDERED else chance.choice((None, None, 0, 6))
        if some:
            steps.append(Step(at, "share", lane, (web, client, name, priority, its_timeout, later, *some)))
        at = round(at + chance.choice((0.001, 1.0)), 3)
    if chance.random() < 0.4:
        cancelled = tuple(chance.sample(labels, k=len(labels) // 3))
        steps.append(Step(round(at + chance.uniform(0.05, 4), 3), "cancel all", lane, cancelled))
    if chance.random() < 0.3:  # comes back when it was away for a while
        again = tuple(f"{label}-later" for label in labels[:6])
        later_at = round(at + chance.uniform(3, 9), 3)
        steps.append(Step(later_at, "share", lane, (web, client, name, None, 60.0, 0.0, *again)))
    return steps


def _share_changes(chance: random.Random, begins: float, lane: str, client: str, name: str) -> Step:
    """An operator changes a partition while its jobs wait."""
    at = round(begins + chance.uniform(0.5, 6), 3)
    choices: list[tuple[str, object]] = [("weight", 0.2), ("weight", 5.0), ("concurrency", 1), ("paused", 1.5)]
    if lane == "shared":
        choices.append(("rates", ("3/s",)))
    what, value = chance.choice(choices)
    return Step(at, "partition", lane, (client, "" if name == "" else name, what, value))


def _when(chance: random.Random) -> float:
    return round(chance.uniform(0.5, LONG_SECONDS - 10), 3)


def _job(chance: random.Random, label: str) -> list[Step]:
    """A submit, and what its caller may do with it later."""
    at = _when(chance)
    operation = chance.choice(OPERATIONS)
    timeout = chance.choice((4.0, 15.0, 30.0, 60.0))
    later = chance.choice((0.0, 0.0, 0.0, 2.0))
    has_webhook, has_key = chance.random() < 0.3, chance.random() < 0.3
    steps = [Step(at, "submit", label, (chance.choice(WEBS), operation, timeout, later, has_key, has_webhook))]
    after = at + chance.choice((0.01, 0.1, 0.5, 3.0)) * chance.uniform(0.5, 1.5)
    if chance.random() < 0.25:
        steps.append(Step(round(after, 3), "cancel", label))
        if chance.random() < 0.6:
            steps.append(Step(round(after + chance.choice((0.01, 0.3, 4.0)), 3), "delete", label))
    elif chance.random() < 0.2:
        steps.append(Step(round(at + chance.uniform(2, 12), 3), "delete", label))
    if chance.random() < 0.15:
        steps.append(Step(round(at + chance.uniform(3, 15), 3), "retry", label))
    if has_key and chance.random() < 0.7:
        again = round(at + chance.choice((0.0, 0.002, 0.5)), 3)
        steps.append(Step(again, "submit", label, (chance.choice(WEBS), operation, timeout, later, True, has_webhook)))
    return steps


def _burst(chance: random.Random, number: int, size: int) -> list[Step]:
    at, operation = _when(chance), chance.choice(OPERATIONS)
    jobs = tuple(f"burst-{number}-{each}" for each in range(size))
    steps = [Step(at, "bulk", operation, (chance.choice(WEBS), *jobs))]
    if chance.random() < 0.4:
        steps.append(Step(round(at + chance.uniform(0.1, 2), 3), "cancel all", operation, jobs))
    return steps


def _operator(chance: random.Random) -> Step:
    lane = chance.choice(OPERATIONS)
    if chance.random() < 0.3:
        return Step(_when(chance), "pause", lane, (chance.choice((0.5, 4.0)),))
    change = chance.choice((("concurrency", 1), ("concurrency", 4), ("rates", ("3/s",)), ("rates", ("8/s", "40/m"))))
    return Step(_when(chance), "change", lane, change)


def _one_of(*processes: str) -> Callable[[random.Random], str]:
    return lambda chance: chance.choice(processes)


_ANY = _one_of(*WEBS, *SCHEDULERS, *WORKERS, *SENDERS)
_RUNS_JOBS = _one_of(*WORKERS)


def _kill(chance: random.Random) -> Step:
    return Step(_when(chance), "kill", _ANY(chance), (chance.choice((0.1, 1.0, 12.0)),))


def _kill_worker(chance: random.Random) -> Step:
    return Step(_when(chance), "kill", _RUNS_JOBS(chance), (chance.choice((0.1, 2.0, 15.0)),))


def _retire(chance: random.Random) -> Step:
    return Step(_when(chance), "retire", _RUNS_JOBS(chance), (chance.choice((0.0, 1.0)),))


def _freeze(chance: random.Random) -> Step:
    return Step(_when(chance), "freeze", _ANY(chance), (chance.choice((0.3, 3.0, 9.0, 14.0)),))


def _database(what: str, *seconds: float) -> Callable[[random.Random], Step]:
    return lambda chance: Step(_when(chance), what, "database", (chance.choice(seconds),))


def _cut(chance: random.Random) -> Step:
    kind = chance.choice(("lost", "unknown", "late"))
    return Step(_when(chance), "cut", _ANY(chance), (kind, chance.choice((1, 3, 8))))


def _messages(what: str) -> Callable[[random.Random], Step]:
    return lambda chance: Step(_when(chance), what, "broker", (chance.choice((0.2, 1.0)), chance.choice((0.5, 5.0))))


def _broker_away(chance: random.Random) -> Step:
    return Step(_when(chance), "broker away", "broker", (chance.choice((0.3, 3.0, 10.0)),))


def _clock(chance: random.Random) -> Step:
    return Step(_when(chance), "clock", "database", (chance.choice((-30.0, -7.0, 7.0, 30.0)),))


_FAULTS: tuple[Callable[[random.Random], Step], ...] = (
    _kill,
    _kill_worker,
    _retire,
    _freeze,
    _database("away", 0.2, 3.0, 9.0),
    _database("stands still", 1.0, 6.0, 12.0, 16.0),
    _database("read-only", 0.5, 4.0, 8.0),
    _cut,
    _cut,
    _messages("lose"),
    _messages("double"),
    _broker_away,
    _clock,
)
