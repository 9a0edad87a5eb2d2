"""Workers and schedulers killed -9 while batches run: each job has one outcome, and the downstream's log agrees."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from benchmarks.batches.gateway import await_end, operation, running, submit
from benchmarks.batches.history import History, read_log, two_faced, unclaimed
from benchmarks.chaos.checks import await_nothing_left, doubled
from benchmarks.commands import await_scheduler, await_worker
from benchmarks.pacing.stack import Stack
from benchmarks.verdict import Verdicts
from tidegate.database.connection import Database

_CONCURRENCY = 4
_LANES = {"free": f"concurrency = {_CONCURRENCY}", "paced": f'rate = "10/s"\nconcurrency = {_CONCURRENCY}'}
_MOST_TOGETHER = 25
_BAD = 0.03
_SCHEDULERS = 2


@dataclass(frozen=True, kw_only=True)
class Size:
    """`kills`, a while between two of them."""

    kills: int
    gap_seconds: tuple[float, float] = (0.8, 3.0)


FULL, QUICK = Size(kills=20), Size(kills=4)


def measure(verdicts: Verdicts, size: Size, seed: int = 24) -> None:
    """Jobs come all the time in groups of up to 25, 3 % of them such that the downstream can't take them."""
    lanes = [operation(name, limits, "20-300") for name, limits in _LANES.items()]
    with running(verdicts.database, lanes, schedulers=_SCHEDULERS) as stack:
        load = _Load(stack, random.Random(seed))  # noqa: S311 - to be repeated
        load.thread.start()
        killed = _kill(stack, size, random.Random(seed + 1))  # noqa: S311 - to be repeated
        load.stopped.set()
        load.thread.join()
        await_end(stack.database_url, longest_seconds=240)
        database = Database(stack.database_url)
        left = await_nothing_left(database, timeout_seconds=60)
        doubles = doubled(database)
        database.close()
        _judge(verdicts, stack, load, killed)
        broken = {promise: rows for promise, rows in {**left, **doubles}.items() if rows}
        verdicts.add("the tables", f"{len(left) + len(doubles)} promises, {len(broken)} broken", is_kept=not broken)
        for promise, rows in broken.items():
            verdicts.list(promise, rows)


class _Load:
    """Submits groups of jobs until it is stopped; the ids that were accepted with their inputs."""

    def __init__(self, stack: Stack, drawn: random.Random) -> None:
        self._stack, self._drawn = stack, drawn
        self.accepted: dict[str, Any] = {}
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self.stopped.wait(self._drawn.uniform(0.1, 0.6)):
            for lane in _LANES:
                inputs = []
                for _ in range(self._drawn.randint(1, _MOST_TOGETHER)):
                    inputs.append({"n": number, "bad": self._drawn.random() < _BAD})
                    number += 1
                self.accepted |= zip(submit(self._stack, lane, inputs), inputs, strict=True)


def _kill(stack: Stack, size: Size, drawn: random.Random) -> Counter[str]:
    killed: Counter[str] = Counter()
    for _ in range(size.kills):
        time.sleep(drawn.uniform(*size.gap_seconds))
        if drawn.random() < 0.7:
            worker = drawn.choice(stack.workers)
            worker.kill()
            killed["worker"] += 1
            time.sleep(drawn.uniform(0.0, 1.0))
            worker.start()
            await_worker([worker])
        else:
            scheduler = drawn.choice([stack.scheduler, *stack.spare_schedulers])
            scheduler.kill()
            killed["scheduler"] += 1
            time.sleep(drawn.uniform(0.0, 1.0))
            scheduler.start()
            await_scheduler(scheduler)
    return killed


def _judge(verdicts: Verdicts, stack: Stack, load: _Load, killed: Counter[str]) -> None:
    history = History(stack.database_url)
    calls = [call for call in read_log(stack.log) if call.lane in _LANES]
    jobs = [history.jobs[job] for job in load.accepted if job in history.jobs]
    outcomes = Counter(each.outcome for lane in _LANES for job in history.of(lane) for each in history.tries[job.id])
    sizes = Counter(len(call.members) for call in calls)
    verdicts.add(
        f"{sum(killed.values())} kills -9 {dict(killed)}",
        f"{len(load.accepted)} jobs, {len(calls)} calls of {min(sizes)} to {max(sizes)} jobs;"
        f" attempts {dict(outcomes)}",
    )
    bad = {job for job, given in load.accepted.items() if given["bad"]}
    wrong = [
        f"{job.id} is {job.state} after {job.losses} losses, {'poison' if job.id in bad else 'good'}"
        for job in jobs
        if job.state != ("failed" if job.id in bad else "succeeded")
    ]
    lost = [job for job in load.accepted if job not in history.jobs]
    verdicts.add(
        "every job has the outcome that it should",
        f"{len(jobs)} of {len(load.accepted)}: {dict(Counter(job.state for job in jobs))}, {len(wrong)} wrong",
        is_kept=not wrong and not lost,
    )
    verdicts.list("wrong", wrong)
    mixed = [job.id for job in jobs if job.state == "succeeded" and job.result != load.accepted[job.id]]
    verdicts.add("every result is the job's own", f"{len(mixed)} are another's", is_kept=not mixed)
    answered = {member: call.status for call in calls for member in call.members if len(call.members) == 1}
    members = {member for call in calls for member in call.members if call.status == 200}
    uncalled = [job.id for job in jobs if job.state == "succeeded" and job.id not in members]
    uncalled += [job.id for job in jobs if job.state == "failed" and answered.get(job.id) != 422]
    verdicts.add("the log has every outcome", f"{len(uncalled)} jobs were not called for it", is_kept=not uncalled)
    faces = two_faced(calls)
    keys = len({call.key for call in calls})
    verdicts.add(
        "an Idempotency-Key has always the same members",
        f"{keys} keys, {len(calls) - keys} repeats, {len(faces)} with others",
        is_kept=not faces,
    )
    strangers = unclaimed(calls, history)
    verdicts.add("each call is of claimed attempts, none twice", f"{len(strangers)} are not", is_kept=not strangers)
    verdicts.list("calls without a claimed attempt", strangers)
    most = {lane: max((call.open for call in calls if call.lane == lane), default=0) for lane in _LANES}
    verdicts.add(
        "no call outside of its batch's place",
        f"most open {most}, {_CONCURRENCY} at the most",
        is_kept=max(most.values()) <= _CONCURRENCY,
    )
