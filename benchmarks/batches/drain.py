"""No-op jobs a second through one worker process: one by one, and many in a call."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sqlalchemy import BigInteger, func, select, type_coerce

from benchmarks.batches.gateway import submit
from benchmarks.batches.operations import BATCHED, PLAIN, WIDE
from benchmarks.pacing.stack import Shape, Stack
from benchmarks.speed.figure import in_turns
from benchmarks.speed.servers import Databases, databases
from benchmarks.verdict import Verdicts
from tidegate.database.connection import Database
from tidegate.database.schema import jobs
from tidegate.database.statement import required
from tidegate.database.time import database_now

_THREADS = 32  # as the embedded default has
_LOOK_SECONDS = 0.2
_TIMES = 3.0
_SETTLED_SECONDS = 1.5
_LONGEST_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Size:
    """`jobs` of each operation in all, in so many `rounds`."""

    jobs: int
    rounds: int


FULL = Size(jobs=20_000, rounds=5)
QUICK = Size(jobs=2_000, rounds=2)


def measure(verdicts: Verdicts, size: Size) -> None:
    """All of a round wait in their lane before the first is let go; interleaved rounds."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-benchmark-"))
    folder.chmod(0o711)  # PostgreSQL runs as another user when we are root
    settings = {"TIDEGATE_OPERATIONS": "benchmarks.batches.operations", "TIDEGATE_MAX_BACKLOG": "1000000"}
    shape = Shape(workers=1, threads=_THREADS, settings=settings)
    with databases(verdicts.database, folder, counts=True) as servers:
        stack = Stack(folder / "stack", servers.make(), "", shape)
        try:
            stack.start()
            lanes = {name: _Lane(stack, servers, name, size) for name in (PLAIN, BATCHED, WIDE)}
            rates = in_turns({name: lane.drain for name, lane in lanes.items()}, size.rounds)
        finally:
            stack.stop()
    for name, what in ((BATCHED, "batches of 10"), (WIDE, "batches of 100")):
        ratio = median(each / beside for each, beside in zip(rates[name], rates[PLAIN], strict=True))
        own, other = (_told(rates[each], lanes[each].asked) for each in (name, PLAIN))
        verdicts.add(
            f"drain of {size.jobs:,} no-op jobs, {what}",
            f"{own}; without {other}: {ratio:.2f} times, at least {_TIMES:g}",
            is_kept=ratio >= _TIMES if name == BATCHED else None,
        )


def _told(rates: Sequence[float], asked: Sequence[float]) -> str:
    return f"{median(rates):,.0f}/s" + (f", {median(asked):.2f} statements a job" if asked else "")


class _Lane:
    """Fills a paused lane with a round's jobs, lets them go and times them."""

    def __init__(self, stack: Stack, servers: Databases, name: str, size: Size) -> None:
        self._stack, self._servers, self._name = stack, servers, name
        self._inputs = [{"n": number} for number in range(size.jobs // size.rounds)]
        self._database = Database(stack.database_url)
        self.asked: list[float] = []

    def drain(self) -> float:
        """Jobs a second, from the moment that the lane is opened to the end of the last one."""
        self._stack.limit(self._name, paused=True)
        submit(self._stack, self._name, self._inputs)
        time.sleep(_SETTLED_SECONDS)
        before = self._servers.sent(self._stack.database_url)
        began = required(self._database.fetch_one(select(type_coerce(database_now(), BigInteger))))[0]
        self._stack.limit(self._name, paused=False)
        until = time.monotonic() + _LONGEST_SECONDS
        while self._still_open():
            if time.monotonic() > until:
                raise RuntimeError(f"{self._name} is not drained")
            time.sleep(_LOOK_SECONDS)  # each look is a statement too
        after = self._servers.sent(self._stack.database_url)
        if before and after:
            self.asked.append(after.since(before).statements / len(self._inputs))
        last = select(func.max(type_coerce(jobs.c.finished_at, BigInteger))).where(jobs.c.downstream == self._name)
        return 1e6 * len(self._inputs) / (required(self._database.fetch_one(last))[0] - began)

    def _still_open(self) -> bool:
        mine = select(jobs.c.id).where(jobs.c.downstream == self._name, jobs.c.finished_at.is_(None)).limit(1)
        return self._database.fetch_one(mine) is not None
