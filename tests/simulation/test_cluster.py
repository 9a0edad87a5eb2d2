"""The simulated cluster: every rule holds for many seeds, a seed repeats to the letter, and a planted bug is found.

Each run is a process of its own, with an order of sets that is the same everywhere (PYTHONHASHSEED=0).
"""

import re
from pathlib import Path

import pytest

from tests.simulation import found
from tests.simulation.batch_plan import MOST
from tests.simulation.bug import Bug
from tests.simulation.plan import plan_of
from tests.simulation.planted import BUGS, ROOT, copy_with, simulated

pytestmark = pytest.mark.timeout(400)  # what fails is shrunk first


@pytest.mark.parametrize("half", [1, pytest.param(2, marks=pytest.mark.long)])
def test_every_rule_holds(half: int) -> None:
    """A minute of it, with seeds that nobody has seen. One that fails is told, shrunk, and kept in found/."""
    code, told = simulated("--seconds", "30")
    assert code == 0, f"half {half}: {told}"
    assert int(re.findall(r"(\d+) seeds with \d+ jobs, every rule held", told)[0]) > 0, told


@pytest.mark.parametrize("path", sorted(found.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_what_was_found_once_is_mended(path: Path) -> None:
    code, told = simulated("--again", str(path))
    assert code == 0, told


@pytest.mark.parametrize(
    ("file", "bug"),
    [
        ("clock-set-back", "a clock set back holds the pace"),
        ("started-while-read-only", "leases are believed at the first look"),
    ],
)
def test_what_was_found_once_is_found_again_with_its_bug(tmp_path: Path, file: str, bug: str) -> None:
    copy_with(next(each for each in BUGS if each.name == bug), tmp_path)
    code, told = simulated("--again", str(found.FOLDER / f"{file}.json"), tree=tmp_path)
    assert code == 1, told
    assert "BROKEN" in told


@pytest.mark.long
def test_a_seed_repeats_to_the_letter() -> None:
    first, again = (simulated("--seeds", "7", "--story") for _ in range(2))
    assert first == again
    assert "is accepted as" in first[1]
    assert simulated("--seeds", "8", "--story") != first


def test_plans_differ_and_have_all_that_can_go_wrong() -> None:
    steps = [step for seed in range(300) for step in plan_of(seed)]
    whats = {step.what for step in steps}
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
    assert {step.who for step in steps} >= {*MOST}


def test_a_planted_bug_is_found_and_told_in_few_steps(tmp_path: Path) -> None:
    bug = next(bug for bug in BUGS if bug.name == "one place too many")
    copy_with(bug, tmp_path)
    code, told = simulated("--seeds", "1-80", tree=tmp_path)
    assert code == 1, told
    assert "concurrency: No more calls are open, and no more jobs accepted, at a downstream than" in told
    plan = re.findall(r"^ +[\d.]+ \w.*", told.partition("The plan:")[2].partition("What happened:")[0], re.MULTILINE)
    assert 0 < len(plan) <= 8, told
    assert "calls open at" in told.rstrip().splitlines()[-1]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_place_of_each_planted_bug_is_there_once(bug: Bug) -> None:
    edit: Bug | None = bug
    while edit is not None:
        assert (ROOT / edit.file).read_text("utf-8").count(edit.right) == 1, edit
        edit = edit.beside
