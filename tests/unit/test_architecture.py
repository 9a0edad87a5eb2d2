"""The pictures in ARCHITECTURE.md are those of the code."""

import re
from pathlib import Path

from tidegate.states import MOVES, State

ARCHITECTURE = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_the_state_diagram_shows_exactly_the_moves_of_the_code() -> None:
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", ARCHITECTURE, re.MULTILINE))
    assert drawn == {(before.value, after.value) for before, moves in MOVES.items() for after in moves}


def test_the_state_diagram_begins_and_ends_where_the_code_does() -> None:
    assert re.findall(r"\[\*\] --> (\w+)", ARCHITECTURE) == [State.QUEUED]
    assert set(re.findall(r"(\w+) --> \[\*\]", ARCHITECTURE)) == {state.value for state in State if state.is_final}
