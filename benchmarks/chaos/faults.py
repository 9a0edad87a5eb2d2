"""What is done to the stack: a plan that a seed decides, and the hand that carries it out and puts things right."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

import psutil

from benchmarks.chaos.stack import BROKER, DATABASE, WEB, Stack
from tests.support import postgresql
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

_LONGEST_FREEZE_SECONDS = 8.0
_LONGEST_DEATH_SECONDS = 3.0


class Kind(StrEnum):
    """Ways to hurt a process or its network."""

    KILL = "kill -9"
    KILL_MAIN = "kill -9 of the main process alone"
    KILL_CHILD = "kill -9 of a child"
    FREEZE = "SIGSTOP, then SIGCONT"
    FREEZE_AND_KILL = "SIGSTOP, then kill -9"
    RESTART = "restart"
    STALL = "network stalls, then goes on"
    STALL_AND_CUT = "network stalls, then is cut"
    REFUSE = "network refuses"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault: `after` so many seconds since the one before, undone after `seconds`."""

    after: float
    kind: Kind
    target: str
    wire: str = ""
    seconds: float

    def __str__(self) -> str:
        return f"{self.target}{f' to {self.wire}' if self.wire else ''}: {self.kind}, {self.seconds:.1f} s"


def plan(random: Random, count: int, *, database: str, gap_seconds: float) -> list[Fault]:
    """The same faults for the same seed; the moments differ, for a target must be whole again before it is hurt."""
    processes = ["io-1", "io-2", "io-3", "cpu-1", "steward-1", "steward-2", WEB, BROKER]
    choices: list[tuple[Kind, str, str]] = [
        (kind, name, "") for name in processes for kind in (Kind.KILL, Kind.FREEZE, Kind.FREEZE_AND_KILL)
    ]
    choices += [(Kind.KILL_MAIN, "cpu-1", ""), (Kind.KILL_CHILD, "cpu-1", ""), (Kind.KILL_CHILD, WEB, "")]
    wires = [BROKER]
    if database == "postgresql":
        wires.append(DATABASE)
        choices += 3 * [(Kind.KILL, DATABASE, ""), (Kind.RESTART, DATABASE, "")]
    choices += [
        (kind, name, wire)
        for name in ("io-1", "cpu-1", "steward-2")
        for wire in wires
        for kind in (Kind.STALL, Kind.STALL_AND_CUT, Kind.REFUSE)
    ]
    faults = []
    for _ in range(count):
        kind, target, wire = random.choice(choices)
        is_slow = wire or kind in {Kind.FREEZE, Kind.FREEZE_AND_KILL}
        longest = _LONGEST_FREEZE_SECONDS if is_slow else _LONGEST_DEATH_SECONDS
        after = random.uniform(0.2, 2 * gap_seconds - 0.2)
        faults.append(Fault(after=after, kind=kind, target=target, wire=wire, seconds=random.uniform(0.2, longest)))
    return faults


class Hand:
    """Strikes as planned, undoes each fault in time, and restarts whatever else died."""

    def __init__(self, stack: Stack, faults: Sequence[Fault]) -> None:
        self._stack = stack
        self._faults = faults
        self._hurt: set[str] = set()
        self._healers: list[threading.Thread] = []
        self.struck: list[tuple[float, float, Fault]] = []  # seconds since 1970: when it began, when it was undone
        self.unexplained: list[str] = []

    def run(self, is_over: Callable[[], bool]) -> None:
        """Strikes until the plan is done (or `is_over`), and waits until everything is whole again."""
        for fault in self._faults:
            self._wait(fault.after, is_over)
            while fault.target in self._hurt:
                self._wait(0.1, is_over)
            if is_over():
                break
            self._hurt.add(fault.target)
            began, undo = time.time(), self._strike(fault)
            healer = threading.Thread(target=self._heal, args=(fault, began, undo), daemon=True)
            healer.start()
            self._healers.append(healer)
        for healer in self._healers:
            healer.join()

    def look(self) -> None:
        """Restarts what died without our hand, and notes it."""
        for name, member in self._stack.members.items():
            if name not in self._hurt and not member.process.is_running:
                self.unexplained.append(f"{name} ended with {member.process.exit_code}")
                member.start()

    def _wait(self, seconds: float, is_over: Callable[[], bool]) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not is_over():
            time.sleep(min(0.1, max(0.0, until - time.monotonic())))
            self.look()

    def _heal(self, fault: Fault, began: float, undo: Callable[[], None]) -> None:
        time.sleep(fault.seconds)
        undo()
        self.struck.append((began, time.time(), fault))
        self._hurt.discard(fault.target)

    def _strike(self, fault: Fault) -> Callable[[], None]:
        """Does it; what it returns undoes it."""
        member = self._stack.members[fault.target]
        process, undo = member.process, member.start
        match fault.kind:
            case Kind.KILL:
                process.kill()
            case Kind.KILL_MAIN:
                # What it leaves behind goes on for a while; a supervisor or a container ends it with the restart.
                os.kill(process.pid, signal.SIGKILL)
            case Kind.KILL_CHILD:
                for child in psutil.Process(process.pid).children()[-1:]:
                    child.kill()
                undo = _nothing
            case Kind.FREEZE | Kind.FREEZE_AND_KILL:
                process.freeze()
                undo = process.thaw if fault.kind is Kind.FREEZE else member.start
            case Kind.RESTART:
                if isinstance(member.server, postgresql.Server):
                    member.server.stop()
            case Kind.STALL | Kind.STALL_AND_CUT | Kind.REFUSE:
                undo = _break(member.wires[fault.wire], fault.kind)
        return undo


def _break(wire: Proxy, kind: Kind) -> Callable[[], None]:
    if kind is Kind.REFUSE:
        wire.refuse()
        return wire.forward
    wire.stall()
    if kind is Kind.STALL:
        return wire.forward

    def cut() -> None:
        wire.cut()
        wire.forward()

    return cut


def _nothing() -> None:
    """A parent starts a new child by itself."""


def await_whole(stack: Stack) -> None:
    """Waits until every process runs."""
    wait_until(
        lambda: all(member.process.is_running for member in stack.members.values()),
        description="every process runs",
        timeout_seconds=60,
    )
