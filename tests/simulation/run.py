"""Runs one plan in a simulated world and says what came of it."""

import gc
import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from tests.simulation.cluster import LEASE, Cluster, Surprises
from tests.simulation.invariants import Invariants
from tests.simulation.plan import LONG_SECONDS, SCHEDULERS, SENDERS, WEBS, WORKERS, Step
from tests.simulation.stores import Faults, rows
from tests.simulation.threads import simulated_time
from tests.simulation.world import Broken, World

_LONGEST_SECONDS = 400.0
_SETTLE_SECONDS = 25.0


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
    invariants = Invariants(world, faults, LEASE.total_seconds())
    cluster = Cluster(world, invariants, faults)
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
    for number, step in enumerate(plan):
        world.spawn(f"plan/{step.what} {step.who} {number}", lambda step=step: _happens(cluster, step), after=step.at)

    def each_second() -> None:
        while True:
            world.sleep(1.0)
            invariants.second()
            if surprises.errors:
                raise invariants.broken("no surprise", surprises.errors[0])

    world.spawn("onlooker", each_second)
    world.run(LONG_SECONDS)
    _heal(cluster)
    while world.now < _LONGEST_SECONDS and not _is_over(cluster):
        world.run(world.now + 1.0)
    world.run(world.now + _SETTLE_SECONDS)
    invariants.over(cluster.receivers.told)


def _happens(cluster: Cluster, step: Step) -> None:
    world, faults, line = cluster.world, cluster.faults, cluster.line
    detail = step.detail
    match step.what:
        case "submit":
            cluster.submit(step.who, *detail)  # type: ignore[arg-type]
        case "bulk":
            cluster.bulk([str(label) for label in detail[1:]], str(detail[0]), step.who)
        case "cancel all":
            for label in detail:
                cluster.act("cancel", str(label))
        case "cancel" | "delete" | "retry":
            cluster.act(step.what, step.who)
        case "pause":
            cluster.operate(step.who, {}, paused=True)
            world.sleep(float(detail[0]))  # type: ignore[arg-type]
            cluster.operate(step.who, {}, paused=False)
        case "change":
            cluster.operate(step.who, {str(detail[0]): detail[1]}, paused=None)
        case "kill":
            cluster.kill(step.who)
            world.sleep(float(detail[0]))  # type: ignore[arg-type]
            cluster.start_role(step.who)
        case "retire":
            cluster.retire(step.who, float(detail[0]))  # type: ignore[arg-type]
            world.sleep(3.0)
            cluster.kill(step.who)
            cluster.start_role(step.who)
        case "freeze":
            world.tell(f"stands still for {detail[0]} s", step.who)
            cluster.roles[step.who].frozen_until = world.now + float(detail[0])  # type: ignore[arg-type]
        case "cut":
            faults.cut.setdefault(cluster.roles[step.who].name, []).extend([str(detail[0])] * int(detail[1]))  # type: ignore[call-overload]
        case "clock":
            _set_clock(cluster, float(detail[0]))  # type: ignore[arg-type]
        case "lose" | "double":
            setattr(line, f"{step.what}s", float(detail[0]))  # type: ignore[arg-type]
            world.sleep(float(detail[1]))  # type: ignore[arg-type]
            setattr(line, f"{step.what}s", 0.0)
        case _:
            _goes_away(cluster, step)


def _goes_away(cluster: Cluster, step: Step) -> None:
    until = cluster.world.now + float(step.detail[0])  # type: ignore[arg-type]
    cluster.world.tell(f"{step.what} for {step.detail[0]} s", step.who)
    match step.what:
        case "away":
            cluster.faults.away_until = until
        case "stands still":
            cluster.faults.frozen_until = until
        case "read-only":
            cluster.faults.read_only_until = until
        case "broker away":
            cluster.line.away_until = until
        case _:
            raise ValueError(step.what)


def _set_clock(cluster: Cluster, seconds: float) -> None:
    from datetime import timedelta

    cluster.world.tell(f"is set by {seconds} s", "clock")
    cluster.world.clock_step += timedelta(seconds=seconds)
    cluster.invariants.disturbed_until = cluster.world.now + 2 * LEASE.total_seconds() + abs(seconds)


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


def freed() -> None:
    """Lets go of the greenlets of past simulations."""
    gc.collect()
