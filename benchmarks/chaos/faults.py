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

from benchmarks.chaos import database_faults
from benchmarks.chaos.database_faults import LOCKED_ROWS, LOCKED_TABLES, Undo
from benchmarks.chaos.stack import BROKER, DATABASE, SCHEDULERS, WEB, WORKERS, Stack
from tests.support.postgresql import Server
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

ALL_WORKERS = "all workers"


class Kind(StrEnum):
    """Ways to hurt a process, its network or the database."""

    KILL = "kill -9"
    KILL_MAIN = "kill -9 of the main process alone"
    KILL_CHILD = "kill -9 of a child"
    FREEZE = "SIGSTOP, then SIGCONT"
    FREEZE_AMID_WRITE = "SIGSTOP amid a transaction, then SIGCONT"
    FREEZE_AND_KILL = "SIGSTOP, then kill -9"
    RESTART = "restart"
    SLOW = "network is slow"
    STALL = "network stalls, then goes on"
    STALL_AND_CUT = "network stalls, then is cut"
    REFUSE = "network refuses"
    STANDSTILL = "stands still with all of its sessions"
    THROTTLE = "runs a sixth of the time"
    READ_ONLY = "read-only"
    LOCK_TABLE = "a table is locked"
    LOCK_ROW = "a row is locked"
    LOCK_FILE = "its file is locked"


_LEAST_SECONDS = 0.2
_LONGEST_DEATH_SECONDS, _LONGEST_FREEZE_SECONDS = 3.0, 8.0
_SECONDS = {
    **dict.fromkeys((Kind.KILL, Kind.KILL_MAIN, Kind.KILL_CHILD), (_LEAST_SECONDS, _LONGEST_DEATH_SECONDS)),
    Kind.RESTART: (_LEAST_SECONDS, _LONGEST_DEATH_SECONDS),
    Kind.STANDSTILL: (12.0, 12.0),  # longer than a lease, and than every process waits for an answer
    Kind.THROTTLE: (3.0, 8.0),
    Kind.READ_ONLY: (1.0, 6.0),
    # Both shorter and longer than a lease, and than the 10 s after which a worker gives a statement up.
    Kind.LOCK_TABLE: (1.0, 14.0),
    Kind.LOCK_ROW: (1.0, 14.0),
    Kind.LOCK_FILE: (3.0, 12.0),
}
"""How long each lasts, at least and at most; the others from 0.2 to 8 s."""
_WIRE_KINDS = (Kind.SLOW, Kind.STALL, Kind.STALL_AND_CUT, Kind.REFUSE)
_DELAY_SECONDS = 0.15


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault: `after` so many seconds since the one before, undone after `seconds`.

    `part`: the wire, the table or the row that is meant.
    """

    after: float
    kind: Kind
    target: str
    part: str = ""
    seconds: float

    def __str__(self) -> str:
        return f"{self.target}{f' ({self.part})' if self.part else ''}: {self.kind}, {self.seconds:.1f} s"

    @property
    def hurts(self) -> frozenset[str]:
        """Whom it hurts: a fault waits until all of them are whole."""
        if self.target == ALL_WORKERS:
            return frozenset(WORKERS)
        # What it has locked stays locked: for everybody else that is a fault of the database.
        return frozenset({self.target, DATABASE} if self.kind is Kind.FREEZE_AMID_WRITE else {self.target})


Struck = tuple[float, float, Fault]
"""A fault that there was: when it began and when it was undone, in seconds since 1970."""


def plan(random: Random, count: int, *, database: str, gap_seconds: float, only: Sequence[Kind] = ()) -> list[Fault]:
    """The same faults for the same seed: first each kind once, then by chance. `only` these kinds, or all.

    The moments differ, for a target must be whole again before it is hurt.
    """
    choices = [choice for choice in _choices(database) if not only or choice[0] in only]
    kinds = sorted({kind for kind, _, _ in choices})
    first = [random.choice([choice for choice in choices if choice[0] is kind]) for kind in kinds]
    random.shuffle(first)
    faults = []
    for number in range(count):
        kind, target, part = first[number] if number < len(first) else random.choice(choices)
        after = random.uniform(0.2, 2 * gap_seconds - 0.2)
        seconds = random.uniform(*_SECONDS.get(kind, (_LEAST_SECONDS, _LONGEST_FREEZE_SECONDS)))
        faults.append(Fault(after=after, kind=kind, target=target, part=part, seconds=seconds))
    return faults


def _choices(database: str) -> list[tuple[Kind, str, str]]:
    """Kind, target and part; what is there several times comes as much more often."""
    is_postgresql = database == "postgresql"
    processes = (*WORKERS, *SCHEDULERS, WEB, BROKER)
    choices = [(kind, name, "") for name in processes for kind in (Kind.KILL, Kind.FREEZE, Kind.FREEZE_AND_KILL)]
    choices += [(Kind.KILL_MAIN, "cpu-1", ""), (Kind.KILL_CHILD, "cpu-1", ""), (Kind.KILL_CHILD, WEB, "")]
    choices += [(Kind.FREEZE_AMID_WRITE, name, "") for name in ("io-2", "scheduler-1", WEB)]
    choices += [(kind, ALL_WORKERS, BROKER) for kind in _WIRE_KINDS]
    wires = (BROKER, DATABASE) if is_postgresql else (BROKER,)
    choices += [
        (kind, name, wire) for name in ("io-1", "cpu-1", "scheduler-2") for wire in wires for kind in _WIRE_KINDS
    ]
    if not is_postgresql:
        return choices + 3 * [(Kind.LOCK_FILE, DATABASE, "")]
    choices += 3 * [(Kind.KILL, DATABASE, ""), (Kind.RESTART, DATABASE, ""), (Kind.STANDSTILL, DATABASE, "")]
    choices += 3 * [(Kind.THROTTLE, DATABASE, ""), (Kind.READ_ONLY, DATABASE, "")]
    choices += [(Kind.LOCK_TABLE, DATABASE, table) for table in LOCKED_TABLES]
    return choices + [(Kind.LOCK_ROW, DATABASE, row) for row in LOCKED_ROWS]


class Hand:
    """Strikes as planned, undoes each fault in time, and restarts whatever else died."""

    def __init__(self, stack: Stack, faults: Sequence[Fault]) -> None:
        self._stack = stack
        self._faults = faults
        self._hurt: set[str] = set()
        self._healers: list[threading.Thread] = []
        self.struck: list[Struck] = []
        self.unexplained: list[str] = []

    def run(self, is_over: Callable[[], bool]) -> None:
        """Strikes until the plan is done (or `is_over`), and waits until everything is whole again."""
        for fault in self._faults:
            self._wait(fault.after, is_over)
            while fault.hurts & self._hurt:
                self._wait(0.1, is_over)
            if is_over():
                break
            self._hurt |= fault.hurts
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

    def _heal(self, fault: Fault, began: float, undo: Undo) -> None:
        time.sleep(fault.seconds)
        undo()
        self.struck.append((began, time.time(), fault))
        self._hurt -= fault.hurts

    def _strike(self, fault: Fault) -> Undo:
        """Does it; what it returns undoes it."""
        if fault.kind in _WIRE_KINDS:
            return _break([self._stack.members[name].wires[fault.part] for name in sorted(fault.hurts)], fault.kind)
        if fault.target == DATABASE:
            return self._strike_database(fault)
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
            case Kind.FREEZE_AMID_WRITE:
                undo = database_faults.freeze_amid_write(process, self._stack.database_url)
        return undo

    def _strike_database(self, fault: Fault) -> Undo:
        url = self._stack.database_url
        if fault.kind is Kind.LOCK_FILE:
            return database_faults.lock_file(url)
        member = self._stack.members[DATABASE]
        server, undo = member.server, member.start
        assert isinstance(server, Server)
        match fault.kind:
            case Kind.KILL:
                server.kill()
            case Kind.RESTART:
                server.stop()
            case Kind.STANDSTILL:
                undo = database_faults.freeze(server)
            case Kind.THROTTLE:
                undo = database_faults.throttle(server)
            case Kind.READ_ONLY:
                undo = database_faults.make_read_only(url)
            case Kind.LOCK_TABLE:
                undo = database_faults.lock_table(url, fault.part)
            case Kind.LOCK_ROW:
                undo = database_faults.lock_row(url, fault.part)
        return undo


def _break(wires: Sequence[Proxy], kind: Kind) -> Undo:
    for wire in wires:
        match kind:
            case Kind.SLOW:
                wire.slow(_DELAY_SECONDS)
            case Kind.REFUSE:
                wire.refuse()
            case _:
                wire.stall()

    def undo() -> None:
        for wire in wires:
            if kind is Kind.STALL_AND_CUT:
                wire.cut()
            wire.forward()

    return undo


def _nothing() -> None:
    """A parent starts a new child by itself."""


def await_whole(stack: Stack) -> None:
    """Waits until every process runs."""
    wait_until(
        lambda: all(member.process.is_running for member in stack.members.values()),
        description="every process runs",
        timeout_seconds=60,
    )
