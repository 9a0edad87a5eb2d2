"""The short form of benchmarks/chaos: whatever is killed, frozen, cut off, slow or locked, nothing is lost, doubled or
left behind."""

import json
from pathlib import Path

import pytest

from benchmarks.chaos.report import table
from benchmarks.chaos.trial import run
from tests.support import postgresql
from tests.support.databases import BOTH

SEED = 20261123
FAULTS = 16  # each kind at least once


@pytest.mark.both_databases("outages of each, and every process killed")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("database", BOTH)
def test_nothing_is_lost_whatever_is_killed(database: str, tmp_path: Path) -> None:
    """`python -m benchmarks.chaos` does it for longer; what a failure prints names the jobs, and the logs lie there."""
    if database == "postgresql" and postgresql.find_binaries() is None:
        pytest.skip(postgresql.NOT_FOUND)
    report = run(tmp_path / "stack", seed=SEED, jobs=300, faults=FAULTS, gap_seconds=2.0, database=database)
    told = f"{table(report)}\n{json.dumps([report.struck, report.stories], indent=1)}\nlogs: {tmp_path}"
    assert report.is_clean, told
    assert sum(report.faults.values()) == FAULTS
    assert report.figures["states"]["succeeded"] > 200
