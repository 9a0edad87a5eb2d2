"""A backlog of a lane of 10 calls a second: in batches of ten, and one by one."""

import time
from dataclasses import dataclass

from benchmarks.batches.gateway import BATCH, await_end, operation, running, submit
from benchmarks.batches.history import History, read_log
from benchmarks.pacing.arrivals import most_within
from benchmarks.verdict import Verdicts

_RATE = 10
_SECONDS = 10.7
_MORE_CALLS = 2


@dataclass(frozen=True, kw_only=True)
class Size:
    """`jobs` in batches; `singly`: so many one by one, in a lane of its own."""

    jobs: int
    singly: int


FULL = Size(jobs=1000, singly=100)
QUICK = Size(jobs=200, singly=20)


def measure(verdicts: Verdicts, size: Size) -> None:
    """From the moment that the bulk submit is sent to the end of the last job."""
    limits = f'rate = "{_RATE}/s"'
    lanes = [operation("paced", limits, "5"), operation("singly", limits, "5", is_batch=False)]
    with running(verdicts.database, lanes) as stack:
        began = {}
        for lane, count in (("paced", size.jobs), ("singly", size.singly)):
            began[lane] = time.time()
            submit(stack, lane, [{"n": number} for number in range(count)])
            await_end(stack.database_url, longest_seconds=60 + count / _RATE)
        time.sleep(0.5)
        history, log = History(stack.database_url), stack.log
        calls = {lane: read_log(log, lane) for lane in began}
    seconds = {lane: max(job.finished for job in history.of(lane)) - at for lane, at in began.items()}
    bound = _SECONDS - (FULL.jobs - size.jobs) / BATCH / _RATE * 1.02
    most = size.jobs // BATCH + _MORE_CALLS
    succeeded = history.states("paced") == {"succeeded": size.jobs}
    verdicts.add(
        f"{size.jobs} jobs at {_RATE}/s in batches of {BATCH}",
        f"{seconds['paced']:.2f} s, {bound:.1f} s at the most; all succeeded: {succeeded}",
        is_kept=seconds["paced"] <= bound and succeeded,
    )
    instants = [call.at for call in calls["paced"]]
    verdicts.add(
        "calls",
        f"{len(instants)}, {most} at the most; {most_within(1.0, instants)} in any second",
        is_kept=len(instants) <= most and most_within(1.0, instants) <= _RATE,
    )
    verdicts.add(
        f"{size.singly} jobs of a lane of the same rate without batches",
        f"{seconds['singly']:.2f} s, {len(calls['singly'])} calls: {size.jobs} would take "
        f"{seconds['singly'] * size.jobs / size.singly:.0f} s",
    )
