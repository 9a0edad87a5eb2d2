"""Does a crowded lane hold up another? Two stacks side by side, one of them crowded; jobs go to them in turn."""

import json
import time
from pathlib import Path

from sqlalchemy import BigInteger, select, type_coerce

from benchmarks.pacing.arrivals import median, quantile, read_log
from benchmarks.pacing.stack import Stack, running
from tests.support.waiting import wait_until
from tidegate.database import Database
from tidegate.models import jobs

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
    rows = []
    for number in (*range(_ROUNDS), None):
        alone, beside = (
            [
                delays[name][job]
                for jobs_of in submitted[name][slice(number, number + 1) if number is not None else slice(None)]
                for job in jobs_of
            ]
            for name in ("quiet", "crowded")
        )
        row = {
            "round": "all" if number is None else str(number + 1),
            "alone_p50": median(alone),
            "alone_p99": quantile(alone, 0.99),
            "crowded_p50": median(beside),
            "crowded_p99": quantile(beside, 0.99),
            "ratio": quantile(beside, 0.99) / quantile(alone, 0.99),
        }
        rows.append(row)
        figures = " | ".join(f"{1e3 * value:.1f} ms" for value in list(row.values())[1:-1])
        print(f"| {row['round']} | {figures} | {row['ratio']:.2f} |")
    print(f"target: <= {_WORST_RATIO:g}")
    out.mkdir(parents=True, exist_ok=True)
    (out / f"blocking-{database}.json").write_text(json.dumps(rows, indent=2) + "\n")


def _in_flight(stack: Stack) -> int:
    return int(stack.request("GET", "/v1/downstreams/slow").document["in_flight"])


def _delays(stack: Stack) -> dict[str, float]:
    """Seconds from the record of a job to its arrival at the downstream."""
    arrived = {call.job: call.at for call in reversed(read_log(stack.log, "fast"))}
    database = Database(stack.database_url)
    with database.reading() as connection:
        rows = connection.execute(
            select(jobs.c.id, type_coerce(jobs.c.created_at, BigInteger)).where(jobs.c.downstream == "fast")
        ).all()
    database.close()
    return {job: arrived[job] - created / 1e6 for job, created in rows}
