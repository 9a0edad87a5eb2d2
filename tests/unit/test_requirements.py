"""The locked requirements: exact, with hashes, complete, and within what pyproject.toml allows."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.processes import REPOSITORY

RUNTIME = "requirements.txt"
# Which file locks what of pyproject.toml: optional dependencies or groups.
BEYOND_RUNTIME = {
    "requirements-stack.txt": ("stack", "otel"),
    "requirements-sqs.txt": ("sqs",),
    "requirements-demo.txt": ("demo",),
    "requirements-dev.txt": ("dev",),
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
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    runtime: list[str] = project["project"]["dependencies"]
    if file == RUNTIME:
        client = tomllib.loads((REPOSITORY / "client" / "pyproject.toml").read_text())["project"]
        return [*runtime, *client["dependencies"], *client["optional-dependencies"]["cli"]]
    groups = {**project["project"]["optional-dependencies"], **project["dependency-groups"]}
    wanted = [each for name in BEYOND_RUNTIME[file] for each in groups[name]]
    return [each for each in wanted if isinstance(each, str)]


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


def test_every_file_of_requirements_is_known_here() -> None:
    assert {file.name for file in Path(REPOSITORY).glob("requirements*.txt")} == set(FILES)


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
