"""Does a crowded lane hold up another? Two stacks side by side, one of them crowded; jobs go to them in turn."""

import json
import time
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from sqlalchemy import BigInteger, select, type_coerce

from benchmarks.pacing.arrivals import median, quantile, read_log
from benchmarks.pacing.stack import Stack, running
from tests.support.waiting import wait_until
from tidegate.database.connection import Database
from tidegate.database.schema import jobs

_OPERATIONS = """
[downstreams.trickle]
rate = "2/s"
[operations.trickle]
url = "http://127.0.0.1:{port}/trickle/5"
timeout = "6h"

[downstreams.slow]
concurrency = 4
[operations.slow]
url = "http://127.0.0.1:{port}/slow/5000"
timeout = "6h"
attempt_timeout = "10s"

[downstreams.fast]
[operations.fast]
url = "http://127.0.0.1:{port}/fast/5"
"""
_WAITING = 10_000
_SLOW = 200
_JOBS = 200
_EVERY_SECONDS = 0.1
_ROUNDS = 3
_WORST_RATIO = 2.0


def run(folder: Path, database: str, out: Path) -> None:
    """Prints p50 and p99 of submit-to-start for each round, and writes blocking-DATABASE.json."""
    with (
        running(folder / "quiet", database, _OPERATIONS) as quiet,
        running(folder / "crowded", database, _OPERATIONS) as crowded,
    ):
        crowded.submit_many("slow", _SLOW)
        crowded.submit_many("trickle", _WAITING)
        wait_until(lambda: _in_flight(crowded) == 4, description="every place of the slow lane is taken")
        time.sleep(2)
        submitted: dict[str, list[list[str]]] = {"quiet": [], "crowded": []}
        for _ in range(_ROUNDS):
            for stacks in submitted.values():
                stacks.append([])
            next_at = time.time()
            for _ in range(_JOBS):
                for name, stack in (("quiet", quiet), ("crowded", crowded)):
                    submitted[name][-1].append(str(stack.submit("fast").document["id"]))
                    next_at += _EVERY_SECONDS / 2
                    time.sleep(max(0.0, next_at - time.time()))
        time.sleep(2)
        backlog = crowded.request("GET", "/v1/downstreams/trickle").document["backlog"]
        delays = {"quiet": _delays(quiet), "crowded": _delays(crowded)}
    print(f"\nno head-of-line blocking, {database}; {backlog} jobs still wait in the 2/s lane\n")
    print("| round | alone p50 | p99 | crowded p50 | p99 | p99 ratio |\n| --- | --- | --- | --- | --- | --- |")
    rounds = {str(number + 1): [submitted[name][number] for name in submitted] for number in range(_ROUNDS)}
    rounds["all"] = [list(chain.from_iterable(submitted[name])) for name in submitted]
    rows = []
    for title, ids in rounds.items():
        alone, beside = ([delays[name][job] for job in part] for name, part in zip(submitted, ids, strict=True))
        row = _Row(
            title=title,
            alone=(median(alone), quantile(alone, 0.99)),
            crowded=(median(beside), quantile(beside, 0.99)),
            ratio=quantile(beside, 0.99) / quantile(alone, 0.99),
        )
        rows.append(row)
        figures = " | ".join(f"{1e3 * seconds:.1f} ms" for seconds in (*row.alone, *row.crowded))
        print(f"| {title} | {figures} | {row.ratio:.2f} |")
    print(f"target: <= {_WORST_RATIO:g}")
    out.mkdir(parents=True, exist_ok=True)
    (out / f"blocking-{database}.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


@dataclass(frozen=True, kw_only=True)
class _Row:
    """p50 and p99 of submit-to-start in seconds, and the ratio of the p99."""

    title: str
    alone: tuple[float, float]
    crowded: tuple[float, float]
    ratio: float


def _in_flight(stack: Stack) -> int:
    return int(stack.request("GET", "/v1/downstreams/slow").document["in_flight"])


def _delays(stack: Stack) -> dict[str, float]:
    """Seconds from the record of a job to its arrival at the downstream."""
    arrived = {call.job: call.at for call in reversed(read_log(stack.log, "fast"))}
    database = Database(stack.database_url)
    rows = database.fetch_all(
        select(jobs.c.id, type_coerce(jobs.c.created_at, BigInteger)).where(jobs.c.downstream == "fast")
    )
    database.close()
    return {job: arrived[job] - created / 1e6 for job, created in rows}
