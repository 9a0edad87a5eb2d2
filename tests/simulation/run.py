"""Runs one plan in a simulated world and says what came of it."""

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from tests.simulation.batch_plan import MOST
from tests.simulation.callers import Callers
from tests.simulation.cluster import LEASE, Cluster, Surprises
from tests.simulation.invariants import Invariants
from tests.simulation.plan import LONG_SECONDS, SCHEDULERS, SENDERS, WEBS, WORKERS, Step
from tests.simulation.stores import Faults, rows
from tests.simulation.threads import simulated_time
from tests.simulation.world import Broken, World

_LONGEST_SECONDS = 400.0
_SETTLE_SECONDS = 16


@dataclass(frozen=True)
class Simulated:
    """What came of a plan. `broken`: the rule that did not hold and how; None: all held."""

    broken: str | None
    story: Sequence[tuple[float, str, str]]
    steps: int
    jobs: int


def simulate(seed: int, plan: Sequence[Step]) -> Simulated:
    """Runs the plan with what the seed draws, until everything is over or an invariant is broken."""
    world = World(seed)
    faults = Faults()
    invariants = Invariants(world, LEASE.total_seconds())
    cluster = Cluster(world, invariants, faults, has_batches=any(step.who in MOST for step in plan))
    surprises = Surprises(world)
    rows().empty()
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(surprises)
    logging.getLogger("tidegate").propagate = True
    broken = None
    try:
        with simulated_time(world):
            try:
                _run(world, cluster, invariants, plan, surprises)
            except Broken as error:
                broken = str(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what came of it
                broken = f"no surprise: {error!r}"
                world.tell("".join(traceback.format_exception(error)[-6:]))
    finally:
        root.removeHandler(surprises)
        root.setLevel(level)
    return Simulated(broken, world.story, world.steps, len(invariants.asked))


def _run(world: World, cluster: Cluster, invariants: Invariants, plan: Sequence[Step], surprises: Surprises) -> None:
    cluster.start()
    callers = Callers(cluster)
    for number, step in enumerate(plan):
        world.spawn(f"plan/{step.what} {step.who} {number}", partial(_happens, callers, step), after=step.at)

    def each_second() -> None:
        while True:
            world.sleep(1.0)
            invariants.second()
            if surprises.errors:
                raise invariants.broken("no surprise", surprises.errors[0])

    world.spawn("onlooker", each_second)
    world.run(LONG_SECONDS)
    _heal(cluster)
    settled = 0
    while world.now < _LONGEST_SECONDS and settled < _SETTLE_SECONDS:
        world.run(world.now + 1.0)
        settled = settled + 1 if _is_over(cluster) else 0
    invariants.over(cluster.receivers.told)


def _happens(callers: Callers, step: Step) -> None:
    """Does one step of the plan."""
    detail: Any = step.detail
    match step.what:
        case "submit":
            web, operation, timeout, later, has_key, has_webhook = detail
            told: Any = {"later": later, "has_key": has_key, "has_webhook": has_webhook}
            callers.submit([step.who], web, operation, timeout, **told)
        case "bulk":
            callers.submit(detail[1:], detail[0], step.who)
        case "share":
            web, client, name, priority, timeout, later, *labels = detail
            whose: Any = {"client_id": client, "partition": name or None, "priority": priority}
            callers.submit(labels, web, step.who, timeout, later=later, **whose)
        case "partition":
            client, name, what, value = detail
            if what == "paused":
                callers.change_partition(step.who, client, name, {}, paused=True)
                callers.cluster.world.sleep(value)
                callers.change_partition(step.who, client, name, {}, paused=False)
            else:
                value = tuple(value) if what == "rates" else value
                callers.change_partition(step.who, client, name, {what: value}, paused=None)
        case "cancel all":
            for label in detail:
                callers.act("cancel", label)
        case "cancel" | "delete" | "retry":
            callers.act(step.what, step.who)
        case "pause":
            callers.operate(step.who, {}, paused=True)
            callers.cluster.world.sleep(detail[0])
            callers.operate(step.who, {}, paused=False)
        case "change":
            callers.operate(step.who, {detail[0]: detail[1]}, paused=None)
        case _:
            _GOES_WRONG[step.what](callers.cluster, step.who, *detail)


def _kill(cluster: Cluster, role: str, seconds: float) -> None:
    cluster.kill(role)
    cluster.world.sleep(seconds)
    cluster.start_role(role)


def _retire(cluster: Cluster, role: str, grace: float) -> None:
    cluster.retire(role, grace)
    _kill_after(cluster, role, 3.0)


def _kill_after(cluster: Cluster, role: str, seconds: float) -> None:
    cluster.world.sleep(seconds)
    _kill(cluster, role, 0.0)


def _freeze(cluster: Cluster, role: str, seconds: float) -> None:
    cluster.world.tell(f"stands still for {seconds} s", role)
    process = cluster.roles[role]
    process.frozen_until = max(process.frozen_until, cluster.world.now + seconds)


def _cut(cluster: Cluster, role: str, kind: str, statements: int) -> None:
    cluster.faults.cut.setdefault(cluster.roles[role].name, []).extend([kind] * statements)


def _messages(name: str) -> Callable[..., None]:
    def happens(cluster: Cluster, _: str, chance: float, seconds: float) -> None:
        cluster.world.tell(f"{name}: {chance:.0%} of the messages", "broker")
        setattr(cluster.line, name, chance)
        cluster.world.sleep(seconds)
        setattr(cluster.line, name, 0.0)

    return happens


def _until(of: Callable[[Cluster], object], name: str) -> Callable[..., None]:
    """A state that lasts; two of them at once last as long as the longer."""

    def happens(cluster: Cluster, who: str, seconds: float) -> None:
        cluster.world.tell(f"{name.removesuffix('_until').replace('_', ' ')} for {seconds} s", who)
        setattr(of(cluster), name, max(getattr(of(cluster), name), cluster.world.now + seconds))

    return happens


def _set_clock(cluster: Cluster, _: str, seconds: float) -> None:
    cluster.world.tell(f"is set by {seconds} s", "clock")
    cluster.world.clock_step += timedelta(seconds=seconds)
    cluster.invariants.disturbed_until = cluster.world.now + 2 * LEASE.total_seconds() + abs(seconds)


_GOES_WRONG: dict[str, Callable[..., None]] = {
    "kill": _kill,
    "retire": _retire,
    "freeze": _freeze,
    "cut": _cut,
    "lose": _messages("loses"),
    "double": _messages("doubles"),
    "away": _until(lambda cluster: cluster.faults, "away_until"),
    "stands still": _until(lambda cluster: cluster.faults, "frozen_until"),
    "read-only": _until(lambda cluster: cluster.faults, "read_only_until"),
    "broker away": _until(lambda cluster: cluster.line, "away_until"),
    "clock": _set_clock,
}


def _heal(cluster: Cluster) -> None:
    """Nothing goes wrong any more."""
    cluster.world.tell("nothing goes wrong from here on")
    cluster.is_healthy = True
    cluster.invariants.quiet_from = cluster.world.now
    cluster.line.loses = cluster.line.doubles = 0.0
    cluster.faults.cut.clear()
    for role in (*WEBS, *SCHEDULERS, *WORKERS, *SENDERS):
        cluster.start_role(role)


def _is_over(cluster: Cluster) -> bool:
    """Whether every job has its end and every webhook was told, or can't be any more."""
    open_jobs = rows().ask("SELECT 1 FROM jobs WHERE state IN ('queued', 'running') LIMIT 1")
    pending = rows().ask("SELECT 1 FROM deliveries WHERE state = 'pending' LIMIT 1")
    return not open_jobs and not pending
