"""One word for one thing in whatever users see, the API's: on the page, in the command line, docs and messages."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.support.processes import REPOSITORY
from tidegate.states import State
from tidegate_client.command.group import tidegate
from webapp.page.texts import STATES

CODE = ("client", "config", "embedded", "tasks", "tidegate", "webapp")
PAGES = [
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "docs" / "your-own-operations").rglob("*.md")),
    *(
        REPOSITORY / name
        for name in ("README.md", "SECURITY.md", ".env.example", "client/README.md", "docs/openapi.json")
    ),
]
# What stands there in place of the word that is said. The code may call a downstream's row and queue its lane.
OTHERS = {
    r"(?<![-\w/#.])lanes?(?![-\w=])": "downstream",
    r"python -m config(\.check)?\b": "tidegate settings, tidegate check",
    r"make settings\b": "tidegate settings",
    r"python -m webapp\.keys\b": "tidegate keys",
    r"\bsteward": "scheduler",
    r"^(Recorded|made)$": "queued, created",
}
_FLAGS = re.IGNORECASE | re.MULTILINE
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def found_in(text: str) -> list[str]:
    """The words that ought to be others."""
    return [f"{match[0]!r}: say {word}" for other, word in OTHERS.items() if (match := re.search(other, text, _FLAGS))]


def said_by(file: Path) -> Iterator[str]:
    """The texts in a module that somebody reads: sentences, and all of the command line's; docstrings are not."""
    tree = ast.parse(file.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, _DOCUMENTED) and node.body and isinstance(node.body[0], ast.Expr)
    } | {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            text = node.value.strip()
            if " " in text or file.is_relative_to(REPOSITORY / "client"):
                yield text


def helps(command: click.Command, context: click.Context) -> Iterator[str]:
    """The help of a command and of those under it."""
    yield command.get_help(context)
    for name, each in getattr(command, "commands", {}).items():
        yield from helps(each, click.Context(each, parent=context, info_name=name))


def test_the_page_names_states_as_the_api_does() -> None:
    assert {state: text.lower() for state, text in STATES.items()} == {state: state.value for state in State}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_in_what_is_read(page: Path) -> None:
    assert found_in(page.read_text()) == []


@pytest.mark.parametrize("package", CODE)
def test_in_what_the_code_says(package: str) -> None:
    files = sorted((REPOSITORY / package).rglob("*.py"))
    # SQL's names and modules' paths are no words to a user.
    wrong = {
        f"{file.relative_to(REPOSITORY)}: {text[:80]}": words
        for file in files
        for text in said_by(file)
        if (words := found_in(text)) and "stewards" not in text
    }
    assert wrong == {}


def test_in_the_templates_of_the_page() -> None:
    for file in sorted((REPOSITORY / "webapp" / "templates").rglob("*.html")):
        text = re.sub(r"{%.*?%}|{{.*?}}|<[^>]*>", "\n", file.read_text(), flags=re.DOTALL)
        shown = "\n".join(line.strip() for line in text.splitlines())
        assert found_in(shown) == [], file


def test_in_the_help_of_the_command_line() -> None:
    for text in helps(tidegate, click.Context(tidegate, info_name="tidegate")):
        assert found_in(text) == [], text
