"""ARCHITECTURE.md and the pages of decisions say what the code is: its pictures, its rooms, its names."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.states import MOVES, State

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PAGES = sorted(DECISIONS.glob("[0-9]*.md"))
PACKAGES = ("client", "config", "demo", "embedded", "migrations", "tasks", "tidegate", "webapp")
SECTIONS = ["Context", "Decision", "Measured", "Consequence"]
CONTRACTS = {
    each["id"]: each
    for each in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
}

of_each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def first_line(module: Path) -> str:
    return (ast.get_docstring(ast.parse(module.read_text("utf-8"))) or "").split("\n")[0]


def rooms_told() -> dict[str, str]:
    """The rooms of both tables, with what is said of each."""
    faces = re.findall(r"^\| `([^`]+)` \| (.+) \| [^|]+ \|$", ARCHITECTURE, re.MULTILINE)
    inside = re.findall(r"^\| \d+ \| `([^`]+)` \| (.+) \|$", ARCHITECTURE, re.MULTILINE)
    return dict([*faces, *inside])


def rooms_in_code() -> dict[str, str]:
    """Every package, and every module that lies in tidegate/ beside its rooms, with its first line."""
    packages = {path.parent for folder in PACKAGES for path in (ROOT / folder).rglob("__init__.py")}
    rooms = {
        f"{package.relative_to(ROOT)}/": first_line(package / "__init__.py")
        for package in packages - {ROOT / "tidegate", ROOT / "migrations" / "versions"}
    }
    alone = {path for path in (ROOT / "tidegate").glob("*.py") if path.name != "__init__.py"}
    return rooms | {str(module.relative_to(ROOT)): first_line(module) for module in alone}


def not_there(page: Path) -> Iterator[str]:
    """What the page names and there is not: paths from the root of the tree, links, and tests by their names."""
    text = page.read_text("utf-8")
    for path in re.findall(r"`([\w.-]+/[\w./-]*)`", text):
        if not (ROOT / path).exists():
            yield path
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        if not (page.parent / link).exists():
            yield link
    for test in re.findall(r"`(test_\w+\.py)`", text):
        if not any((ROOT / "tests").rglob(test)):
            yield test


def test_the_state_diagram_shows_exactly_the_moves_of_the_code() -> None:
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", ARCHITECTURE, re.MULTILINE))
    assert drawn == {(before.value, after.value) for before, moves in MOVES.items() for after in moves}


def test_the_state_diagram_begins_and_ends_where_the_code_does() -> None:
    assert re.findall(r"\[\*\] --> (\w+)", ARCHITECTURE) == [State.QUEUED]
    assert set(re.findall(r"(\w+) --> \[\*\]", ARCHITECTURE)) == {state.value for state in State if state.is_final}


def test_the_architecture_is_read_in_one_sitting() -> None:
    assert len(ARCHITECTURE.splitlines()) <= 200


def test_every_room_is_told_by_its_own_first_line() -> None:
    assert rooms_told() == rooms_in_code()


def test_the_lines_of_the_rooms_are_those_of_the_import_contract() -> None:
    told: dict[int, set[str]] = {}
    for line, room in re.findall(r"^\| (\d+) \| `tidegate/(\w+)(?:/|\.py)` ", ARCHITECTURE, re.MULTILINE):
        told.setdefault(int(line), set()).add(room)
    assert told == {line: set(rooms.split(" | ")) for line, rooms in enumerate(CONTRACTS["rooms"]["layers"], 1)}


def test_the_pure_modules_are_those_of_the_import_contract() -> None:
    told = re.search(r"^What decides is \*pure\*:(.+?)import neither", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    assert told
    modules = {path.removesuffix(".py").replace("/", ".") for path in re.findall(r"`([\w/]+\.py)`", told[1])}
    assert modules == set(CONTRACTS["pure"]["source_modules"])


@pytest.mark.parametrize("page", [ROOT / "ARCHITECTURE.md", DECISIONS / "README.md"], ids=lambda page: page.name)
def test_what_the_page_names_is_there(page: Path) -> None:
    assert list(not_there(page)) == []


@of_each_page
def test_what_a_decision_names_is_there(page: Path) -> None:
    assert list(not_there(page)) == []


@of_each_page
def test_a_decision_has_its_four_sections_and_none_is_empty(page: Path) -> None:
    _, *parts = re.split(r"^## ", page.read_text("utf-8"), flags=re.MULTILINE)
    told = [part.partition("\n") for part in parts]
    assert [title for title, _, _ in told] == SECTIONS
    assert all(text.strip() for _, _, text in told)


def test_every_decision_is_in_the_index_once_by_its_title() -> None:
    index = (DECISIONS / "README.md").read_text("utf-8")
    listed = re.findall(r"^- \[(\d{4} .+)\]\((.+)\)$", index, re.MULTILINE)
    titles = {page.name: page.read_text("utf-8").partition("\n")[0].removeprefix("# ") for page in PAGES}
    assert sorted((name, title) for title, name in listed) == sorted(
        (name, f"{name[:4]} {title}") for name, title in titles.items()
    )


def test_each_decision_has_a_number_of_its_own() -> None:
    numbers = [page.name[:4] for page in PAGES]
    assert len(set(numbers)) == len(numbers)


def test_a_decision_stands_in_the_index_under_its_room() -> None:
    index = (DECISIONS / "README.md").read_text("utf-8")
    _, *groups = re.split(r"^## ", index, flags=re.MULTILINE)
    for group in groups:
        room, _, pages = group.partition("\n")
        for name in re.findall(r"\((.+\.md)\)", pages):
            said = re.search(r"^Room: (.+)$", (DECISIONS / name).read_text("utf-8"), re.MULTILINE)
            assert said, name
            assert said[1].casefold() == room.casefold(), name
