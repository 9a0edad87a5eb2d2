"""The requirements: locked ones exact, with hashes, complete and as pyproject.toml allows; declared ones imported."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.processes import REPOSITORY

RUNTIME = "requirements.txt"
# Which file locks which group of pyproject.toml.
BEYOND_RUNTIME = {
    "requirements-stack.txt": "stack",
    "requirements-sqs.txt": "sqs",
    "requirements-demo.txt": "demo",
    "requirements-dev.txt": "dev",
}
FILES = (RUNTIME, *BEYOND_RUNTIME)
_HASH = r"--hash=sha256:[0-9a-f]{64}"
_LOCKED = re.compile(rf"(?P<name>[a-z0-9-]+)==(?P<version>[0-9a-z.]+)(?P<marker> ; [^\\]+?)?(?: {_HASH})+")


def _lines(file: str) -> list[str]:
    """Its requirements, a line each, without comments."""
    text = (REPOSITORY / file).read_text().replace("\\\n", "")
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if not line.startswith("#")]


def _locked(file: str) -> dict[str, set[str]]:
    """The versions that a file and those it includes lock, by the name of their package."""
    found: dict[str, set[str]] = {}
    for line in _lines(file):
        if line == f"-r {RUNTIME}":
            found |= _locked(RUNTIME)
        elif match := _LOCKED.fullmatch(line):
            found.setdefault(match["name"], set()).add(match["version"])
    return found


def _declared(file: str) -> list[str]:
    """What pyproject.toml wants of that which a file locks; of requirements.txt the client's wishes, too."""
    whole = _pyproject(".")
    if file != RUNTIME:
        return list(_group(whole["dependency-groups"], BEYOND_RUNTIME[file]))
    application = _group(whole["dependency-groups"], "application")
    return [*whole["project"]["dependencies"], *application, *_wanted_by_client()]


def _wanted_by_client() -> list[str]:
    client = _pyproject("client")["project"]
    return [*client["dependencies"], *client["optional-dependencies"]["cli"]]


def _pyproject(folder: str) -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / folder / "pyproject.toml").read_text())


def _group(groups: Mapping[str, list[Any]], name: str) -> Iterator[str]:
    """A group's requirements, with those of the groups that it includes."""
    for each in groups[name]:
        yield from [each] if isinstance(each, str) else _group(groups, each["include-group"])


@pytest.mark.parametrize("file", FILES)
def test_each_requirement_has_one_version_and_its_hashes(file: str) -> None:
    lines = _lines(file)
    assert len(lines) > 5
    # Nothing else may stand there either: no index, no URL, no path.
    assert [line for line in lines if not _LOCKED.fullmatch(line) and line != f"-r {RUNTIME}"] == []


@pytest.mark.parametrize("file", FILES)
def test_what_pyproject_wants_is_locked_at_a_version_that_it_allows(file: str) -> None:
    locked = _locked(file)
    for wanted in map(Requirement, _declared(file)):
        versions = locked[canonicalize_name(wanted.name)]
        assert all(wanted.specifier.contains(version) for version in versions), wanted


@pytest.mark.parametrize("file", [RUNTIME, "requirements-dev.txt"])
def test_what_a_locked_package_needs_is_locked_too_or_pip_would_refuse_the_file(file: str) -> None:
    locked = _locked(file)
    missing = {str(needed) for needed in _needed(_declared(file)) if canonicalize_name(needed.name) not in locked}
    assert not missing


@pytest.mark.parametrize(
    ("package", "declared"),
    [("tidegate", _pyproject(".")["project"]["dependencies"]), ("client/tidegate_client", _wanted_by_client())],
)
def test_a_distribution_declares_what_its_package_imports_and_nothing_else(package: str, declared: list[str]) -> None:
    own = {"tidegate", "tidegate_client"}
    server = {"config", "webapp"}  # which the client's commands find in the checkout
    imported = _imported(REPOSITORY / package) - own - server - sys.stdlib_module_names
    # pydantic names the one version of its core that it goes with.
    brought_along = {"pydantic-core": "pydantic"}
    names = {canonicalize_name(packages_distributions()[module][0]) for module in imported}
    assert {brought_along.get(name, name) for name in names} == {
        canonicalize_name(Requirement(each).name) for each in declared
    }


def test_every_file_of_requirements_is_known_here() -> None:
    assert {file.name for file in Path(REPOSITORY).glob("requirements*.txt")} == set(FILES)


def _imported(folder: Path) -> set[str]:
    """The top-level names of all modules that the Python files of a folder import."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def _needed(declared: Iterable[str]) -> Iterator[Requirement]:
    """What these packages need, and what that needs, as the installed ones say."""
    waiting, seen = [Requirement(each) for each in declared], set()
    while waiting:
        each = waiting.pop()
        if str(each) in seen:
            continue
        seen.add(str(each))
        yield each
        extras = each.extras or {""}
        waiting.extend(
            needed
            for needed in map(Requirement, requires(each.name) or [])
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras)
        )
