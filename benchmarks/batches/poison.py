"""One job in each batch that the downstream can't take, and a downstream that is away."""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.batches.downstream import weather_of
from benchmarks.batches.gateway import BATCH, await_end, operation, running, submit
from benchmarks.batches.history import Arrived, History, read_log, two_faced
from benchmarks.pacing.stack import Stack
from benchmarks.verdict import Verdicts
from tests.support.processes import is_listening
from tests.support.waiting import wait_until

_MOST_MORE = 8


def measure_poison(verdicts: Verdicts, batches: int) -> None:
    """So many batches of ten, with one in each."""
    drawn = random.Random(24)  # noqa: S311 - to be repeated
    bad = {first + drawn.randrange(BATCH) for first in range(0, batches * BATCH, BATCH)}
    with running(verdicts.database, [operation("poisoned", "concurrency = 4", "5")]) as stack:
        stack.limit("poisoned", paused=True)
        ids = submit(stack, "poisoned", [{"n": n, "bad": n in bad} for n in range(batches * BATCH)])
        stack.limit("poisoned", paused=False)
        await_end(stack.database_url, longest_seconds=120)
        time.sleep(0.5)
        history, calls = History(stack.database_url), read_log(stack.log, "poisoned")
    failed = {job.id for job in history.of("poisoned") if job.state == "failed"}
    others = Counter(job.state for job in history.of("poisoned") if job.id not in failed)
    expected = {ids[number] for number in bad}
    verdicts.add(
        f"one poison in each of {batches} batches of {BATCH}",
        f"{len(failed & expected)} of {len(expected)} failed, {len(failed - expected)} others; {dict(others)}",
        is_kept=failed == expected and others == {"succeeded": len(ids) - len(expected)},
    )
    made = _by_batch(calls)
    poisons = {members: len(members & expected) for members in made}
    more = [(number - 1) / max(1, poisons[members]) for members, number in made.items()]
    strangers = [call.key for call in calls if not any(members.issuperset(call.members) for members in made)]
    fills = dict(Counter((len(members), poisons[members]) for members in made))
    verdicts.add(
        "calls beyond its one for each poison in a batch",
        f"{min(more):.1f} to {max(more):.1f}, {sum(more) / len(more):.1f} on average, {_MOST_MORE} at the most;"
        f" {len(calls)} calls in all; batches by jobs and poisons: {fills}",
        is_kept=max(more) <= _MOST_MORE and not strangers,
    )
    attempt = Counter(sum(each.outcome in {"succeeded", "failed"} for each in history.tries[job]) for job in ids)
    verdicts.add("ends of a job", f"{dict(attempt)}", is_kept=set(attempt) == {1})


def _by_batch(calls: Sequence[Arrived]) -> Mapping[frozenset[str], int]:
    """By the members of each first call of theirs: how many calls there were for any of them."""
    made: dict[frozenset[str], int] = {}
    first: dict[str, frozenset[str]] = {}
    for call in calls:
        batch = first.get(call.members[0], frozenset(call.members))
        first |= {member: batch for member in call.members if member not in first}
        made[batch] = made.get(batch, 0) + 1
    return made


@dataclass(frozen=True, kw_only=True)
class Size:
    """`jobs` that wait, and how long the downstream is away."""

    jobs: int
    seconds: float


FULL = Size(jobs=200, seconds=12)
QUICK = Size(jobs=50, seconds=5)
_RETRY = 'retry = { attempts = 100, delay = "200ms", max_delay = "1s" }'


def _refuses(stack: Stack, seconds: float) -> None:
    stack.downstream.kill()
    time.sleep(seconds)
    stack.downstream.start()
    wait_until(lambda: is_listening(stack.downstream_port), description="the downstream is back", timeout_seconds=30)


def _weather(wrong: str) -> Callable[[Stack, float], None]:
    def fault(stack: Stack, seconds: float) -> None:
        weather_of(stack.log).write_text(wrong)
        time.sleep(seconds)
        weather_of(stack.log).unlink()

    return fault


_FAULTS = {"refused": _refuses, "answered-503": _weather("503"), "timed-out": _weather("slow=3")}


def measure_outage(verdicts: Verdicts, size: Size) -> None:
    """The jobs wait when it begins, as many without batches beside them; after it all of them succeed."""
    lanes = [
        operation(name, "concurrency = 4", "5", is_batch=name != f"{fault}-singly", more=_RETRY)
        for fault in _FAULTS
        for name in (fault, f"{fault}-singly")
    ]
    with running(verdicts.database, lanes) as stack:
        for name, fault in _FAULTS.items():
            for lane in (name, f"{name}-singly"):
                stack.limit(lane, paused=True)
                submit(stack, lane, [{"n": number} for number in range(size.jobs)])
            threads_begin = time.time()
            for lane in (name, f"{name}-singly"):
                stack.limit(lane, paused=False)
            fault(stack, size.seconds)
            over = time.time()
            await_end(stack.database_url, longest_seconds=180)
            time.sleep(0.5)
            _judge(verdicts, size, name, stack, (threads_begin, over))


def _judge(verdicts: Verdicts, size: Size, name: str, stack: Stack, during: tuple[float, float]) -> None:
    history, log = History(stack.database_url), read_log(stack.log, name)
    began, over = during
    tried = [each for each in history.called(name) if began <= (each.claimed or 0) <= over]
    calls = [each for each in tried if each.is_call]
    singly = [each for each in history.called(f"{name}-singly") if began <= (each.claimed or 0) <= over]
    batches = {each.batch for each in tried}
    sizes = Counter(Counter((each.batch) for each in tried).values())
    wanted = size.jobs // BATCH
    outcomes = dict(Counter(each.outcome for each in calls))
    verdicts.add(
        f"{name}, {size.jobs} jobs, {size.seconds:g} s",
        f"{len(calls)} calls {outcomes} for {len(tried)} attempts of jobs, in {len(batches)} batches, {wanted} at the"
        f" most; {len(singly)} calls without batches",
        is_kept=len(calls) * BATCH == len(tried) and len(batches) <= wanted and 0 not in sizes,
    )
    seen = [call for call in log if call.at <= over]
    verdicts.add(
        f"{name}: the downstream's log",
        f"{len(seen)} calls meanwhile, all for {BATCH}: {all(len(call.members) == BATCH for call in seen)};"
        f" in all {len(log)} under {len({call.key for call in log})} keys; afterwards {history.states(name)}",
        is_kept=len(seen) <= len(calls) + 1
        and all(len(call.members) == BATCH for call in seen)
        and not two_faced(log)
        and history.states(name) == {"succeeded": size.jobs},
    )
