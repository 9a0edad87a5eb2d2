"""The simulated cluster: every rule holds for many seeds, a seed repeats to the letter, and a planted bug is found.

Each run is a process of its own, with an order of sets that is the same everywhere (PYTHONHASHSEED=0).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.plan import plan_of
from tests.simulation.planted import BUGS, ROOT, Bug, copy_with

_EACH = 8
_EACH_LONG = 150


def simulated(*arguments: str, tree: Path = ROOT) -> tuple[int, str]:
    """What `python -m tests.simulation` says in this tree, and its exit code."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("first", range(1, 6 * _EACH, _EACH))
def test_every_rule_holds(first: int) -> None:
    code, told = simulated("--seeds", f"{first}-{first + _EACH - 1}")
    assert code == 0, told
    assert f"{_EACH} seeds, every rule held" in told


@pytest.mark.long
@pytest.mark.parametrize("first", [1_000, 2_000])
def test_every_rule_holds_for_more(first: int) -> None:
    code, told = simulated("--seeds", f"{first}-{first + _EACH_LONG - 1}")
    assert code == 0, told


@pytest.mark.parametrize("seed", [75])
def test_what_was_found_once_is_mended(seed: int) -> None:
    """75: a paced lane stood still after the clock was set back."""
    code, told = simulated("--seeds", str(seed))
    assert code == 0, told


def test_a_seed_repeats_to_the_letter() -> None:
    first, again = (simulated("--seeds", "7", "--story") for _ in range(2))
    assert first == again
    assert "is accepted as" in first[1]
    assert simulated("--seeds", "8", "--story") != first


def test_plans_differ_and_have_all_that_can_go_wrong() -> None:
    whats = {step.what for seed in range(300) for step in plan_of(seed)}
    assert whats >= {
        "submit",
        "bulk",
        "cancel",
        "delete",
        "retry",
        "pause",
        "change",
        "kill",
        "retire",
        "freeze",
        "cut",
    }
    assert whats >= {"cut", "away", "stands still", "read-only", "lose", "double", "broker away", "clock", "cancel all"}


def test_a_planted_bug_is_found_and_told_in_few_steps(tmp_path: Path) -> None:
    bug = next(bug for bug in BUGS if bug.name == "one place too many")
    copy_with(bug, tmp_path)
    code, told = simulated("--seeds", "1-50", tree=tmp_path)
    assert code == 1, told
    assert "concurrency: No more calls are open at a downstream than its concurrency allows." in told
    plan = re.findall(r"^ +[\d.]+ \w.*", told.partition("The plan:")[2].partition("What happened:")[0], re.MULTILINE)
    assert 0 < len(plan) <= 8, told
    assert "calls open at" in told.splitlines()[-2]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_place_of_each_planted_bug_is_there_once(bug: Bug) -> None:
    edit: Bug | None = bug
    while edit is not None:
        assert (ROOT / edit.file).read_text("utf-8").count(edit.right) == 1, edit
        edit = edit.beside
