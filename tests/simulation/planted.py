"""Planted bugs: each is put into a copy of the tree, where the simulation must find it."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.simulation.bug import Bug
from tests.simulation.found import FOLDER
from tests.simulation.planted_in_batches import BATCH_BUGS
from tests.simulation.planted_in_partitions import PARTITION_BUGS

ROOT = Path(__file__).parents[2]
LONGEST_SECONDS = 600.0
_ALL_CALLS = "return self._store.calls_of(self._worker, [os.getpid()])"
_COPIED = ("tidegate", "tasks", "config", "migrations", "tests", "pyproject.toml")


_CLAIMS = "tidegate/execution/claim_statements.py"
_OUTCOMES = "tidegate/execution/outcome_store.py"
_PLAN = "tidegate/dispatch/plan.py"
_RELEASE = "tidegate/dispatch/release.py"
_MOVES = "tidegate/jobs/transitions.py"
_SWEEP = "tidegate/maintenance/sweep.py"
_SWEEPS = "tidegate/maintenance/store.py"
_BEAT = "tidegate/execution/heartbeat.py"
_HEARTBEATS = "tidegate/execution/heartbeat_store.py"
_RUNNER = "tidegate/execution/runner.py"
_SLOTS = "tidegate/execution/slot_wait.py"

BUGS: tuple[Bug, ...] = (
    # What did not hold once.
    Bug(
        "a claim that was given up is renewed for ever",
        "tidegate/execution/claims.py",
        """            if take_back_release(self._database, connection, job_id, fence, outcome="unclaimed"):
                return False
""",
        "",
        beside=Bug("", _BEAT, "return self._open_attempts.all()", _ALL_CALLS),
    ),
    Bug("read-only is a surprise", "tidegate/database/driver_errors.py", "        sqlite3.SQLITE_READONLY,\n", ""),
    Bug(
        "leases are believed after a freeze",
        _SWEEP,
        "        if monotonic < self._trusted_from:\n            return None\n        return self._looks[0][0]",
        "        return now",
    ),
    Bug(
        "leases are believed at the first look",
        _SWEEP,
        "        else:\n            self.distrust()  # also if there could be no look for long since the start\n",
        "",
        beside=Bug("", _SWEEP, 'float("inf")', "clock.monotonic() + self._lease"),
    ),
    Bug("attempts of erased jobs stay", _MOVES, "    if not job_ids:\n        return\n", "    return\n"),
    Bug(
        "a success ends no row of failures",
        "tidegate/execution/successes.py",
        "_IS_TROUBLED = or_(downstreams.c.failures > 0, downstreams.c.refusals > 0)",
        "_IS_TROUBLED = downstreams.c.refusals > 0",
    ),
    Bug(
        "done is told as not done", "tidegate/database/driver_errors.py", "may_be_done=may_be_done", "may_be_done=False"
    ),
    Bug(
        "a clock set forward frees places",
        _SWEEP,
        "if passed > self._lease / 2 + SWEEP_SECONDS or abs(jump) > self._lease / 2:",
        "if passed > self._lease / 2 + SWEEP_SECONDS:",
    ),
    Bug(
        "a clock set back is not put right",
        _SWEEP,
        "if watch and (watch.may_be_behind or watch.is_behind):",
        "if watch and watch.may_be_behind:",
    ),
    Bug(
        "a clock set back holds the pace",
        "tidegate/dispatch/gate.py",
        "if plan.has_new_clock:",
        "if False:",
    ),
    # A guard left out.
    Bug(
        "any claim is mine",
        _MOVES,
        "jobs.c.state == State.RUNNING, jobs.c.fence == claim.fence)",
        "jobs.c.state == State.RUNNING)",
    ),
    Bug(
        "an old release can be claimed",
        _MOVES,
        "jobs.c.state == State.QUEUED, jobs.c.fence == fence, jobs.c.slot_at",
        "jobs.c.state == State.QUEUED, jobs.c.slot_at",
    ),
    Bug("a cancelled job comes back", _MOVES, "            (jobs.c.cancel_requested, State.CANCELLED),\n", ""),
    Bug(
        "a late success counts",
        "tidegate/execution/successes.py",
        "== _FENCE, IN_TIME)\n    .values(_SUCCEEDED)\n    .returning(\n        select(downstreams.c.name)",
        "== _FENCE)\n    .values(_SUCCEEDED)\n    .returning(\n        select(downstreams.c.name)",
    ),
    Bug(
        "percent may fall",
        _OUTCOMES,
        "percent=case((jobs.c.percent < progress.percent, progress.percent), else_=jobs.c.percent)",
        "percent=progress.percent",
    ),
    Bug(
        "a changed lane is released by an old plan",
        _RELEASE,
        "if not database.fetch_one(_IS_UNCHANGED",
        "if False and not database.fetch_one(_IS_UNCHANGED",
    ),
    Bug(
        "a job that moved is released",
        _RELEASE,
        '.where(IS_WAITING, jobs.c.id == bindparam("the_job_id"), jobs.c.fence == bindparam("the_fence") - 1)',
        '.where(jobs.c.id == bindparam("the_job_id"))',
    ),
    Bug(
        "a read does not expire",
        "tidegate/jobs/store.py",
        "        if job and _is_late(job):\n            self._expire(jobs.c.id == job_id)\n",
        "        if job and _is_late(job):\n",
    ),
    Bug(
        "a paused lane goes on",
        "tidegate/dispatch/lane.py",
        "return self.paused or self.paused_until > now",
        "return self.paused_until > now",
        beside=Bug("", "tidegate/execution/claim_statements.py", "IN_TIME, ~_RESTS", "IN_TIME"),
    ),
    Bug("what was accepted is sent again", _RUNNER, "            poll_url=claim.poll_url,\n", ""),
    Bug(
        "a lost poll is not waited for",
        "tidegate/dispatch/due_jobs.py",
        "text(WAITS_FOR_POLL), ~is_open, IN_TIME",
        "text(WAITS_FOR_POLL), IN_TIME",
    ),
    # A limit that is off.
    Bug(
        "one place too many",
        "tidegate/dispatch/room.py",
        "min(MOST_RELEASED, lane.concurrency - state.held)",
        "min(MOST_RELEASED, lane.concurrency - state.held + 1)",
    ),
    Bug(
        "what is announced as left is never reset",
        "tidegate/dispatch/announced.py",
        "        if now < self.until:",
        "        if True:",
    ),
    Bug(
        "a slot is kept for nobody",
        "tidegate/rate_limit.py",
        "+ allowance.spacing, call_log.with_call(pace.log, slot)",
        "+ allowance.spacing, pace.log[1:]",
    ),
    Bug(
        "a missed slot is used all the same",
        _SLOTS,
        "if not claim.is_paced or clock.monotonic() - due <= late_seconds:",
        "if True:",
    ),
    Bug(
        "a follower does not wait",
        _SLOTS,
        "        if claim.follows is None:\n            return True\n",
        "        return True\n",
    ),
    Bug(
        "places of the dead are free at once",
        "tidegate/dispatch/places.py",
        "return attempt.c.ended_at.is_(None)",
        "return and_(attempt.c.ended_at.is_(None), attempt.c.place_until > database_now())",
    ),
    # Something that is not done.
    Bug(
        "what was accepted keeps no place",
        _OUTCOMES,
        "end = keep_place if has_place else end_attempt",
        "end = end_attempt",
    ),
    Bug(
        "the end of a job leaves its kept place",
        "migrations/versions/0016_polls.py",
        "body=_FREE_PLACE",
        'body="SELECT 1;"',
    ),
    Bug("a lost message stays lost", _SWEEP, "upkeep.take_back_unclaimed(MOST_MOVED) if due.places else 0", "0"),
    Bug(
        "dead workers keep their jobs",
        _SWEEP,
        "rescued = upkeep.rescue(MOST_MOVED, until=until) if until and due.leases else 0",
        "rescued = 0",
    ),
    Bug(
        "places of the dead are never free",
        _SWEEP,
        "freed = upkeep.free_places(MOST_MOVED, until=until) if until and due.places else 0",
        "freed = 0",
    ),
    Bug(
        "an outcome is offered once",
        "tidegate/database/retrying.py",
        "        except passing as error:\n",
        "        except passing as error:\n            if job_id:\n                raise\n",
    ),
    Bug(
        "leases are not renewed",
        _HEARTBEATS,
        "connection.execute(update(jobs).where(still_run).values(lease_until=until))",
        "connection.execute(select(jobs.c.id).where(still_run))",
    ),
    Bug(
        "a webhook is sent once",
        "tidegate/webhooks/sender.py",
        "if sent.is_delivered or sent.is_unwanted or claim.left <= timedelta(0):",
        "if True:",
    ),
    Bug(
        "a key names several jobs",
        "tidegate/intake/idempotency.py",
        "taken = set(connection.execute(statement, [asdict(use) for use in left]).scalars())",
        "connection.execute(statement, [asdict(use) for use in left])\n        taken = {use.job_id for use in left}",
    ),
    *PARTITION_BUGS,
    *BATCH_BUGS,
)


def find(names: Sequence[str], *, seconds: float) -> int:
    """Looks for each bug in a copy, at most so long; returns 1 if one was not found."""
    missed = 0
    for bug in BUGS:
        if names and bug.name not in names:
            continue
        began = time.monotonic()
        told = _found(bug, seconds)
        took = time.monotonic() - began
        missed += told is None
        print(f"{bug.name:<36} {took:6.1f} s  {told or 'NOT FOUND'}", flush=True)  # noqa: T201 - a command
    return 1 if missed else 0


def _found(bug: Bug, seconds: float) -> str | None:
    """What the simulation says of the bug: first with the plans that were kept, then seed by seed."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_with(bug, tree)
        for kept in sorted(FOLDER.glob("*.json")):
            if broken := _broken(tree, "--again", str(kept)):
                return f"{kept.stem}: {broken}"
        return _broken(tree, "--whole", "--seeds", "1-99999", "--seconds", str(seconds))


def _broken(tree: Path, *arguments: str) -> str | None:
    code, told = simulated(*arguments, tree=tree)
    if code != 1:
        return None
    return next((line for line in told.splitlines() if line.startswith("seed ")), told.rstrip().splitlines()[-1])


def simulated(*arguments: str, tree: Path = ROOT) -> tuple[int, str]:
    """Runs `python -m tests.simulation` in a tree, with sets in the same order everywhere; its exit code and words."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def copy_with(bug: Bug, folder: Path) -> None:
    """Makes a copy of what a simulation needs, with the bug in it."""
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    _plant(bug, folder)


def _plant(bug: Bug, root: Path) -> None:
    """Puts the bug into a tree; LookupError if its place is not there just once."""
    path = root / bug.file
    text = path.read_text("utf-8")
    if text.count(bug.right) != 1:
        raise LookupError(f"{bug.name}: {text.count(bug.right)} places in {bug.file}")
    path.write_text(text.replace(bug.right, bug.wrong), "utf-8")
    if bug.beside:
        _plant(bug.beside, root)
