"""The wheels of `tidegate` and `tidegate-client`: what is in them; and the client, tried where nothing else is.

The library is tried by tests/system/test_your_own_operations.py.
"""

import json
import os
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.own_operations import checkout, locked_versions
from tests.support.processes import REPOSITORY

SOURCES = {"tidegate": REPOSITORY / "tidegate", "tidegate_client": REPOSITORY / "client" / "tidegate_client"}


@dataclass(frozen=True)
class Environment:
    """A Python of its own, in which one wheel and what that needs is installed, and an empty folder to work in."""

    folder: Path
    work: Path

    @classmethod
    def with_installed(cls, wanted: str, folder: Path) -> "Environment":
        """Installs the wheel, at a path and with its extras; what it needs comes in the versions that are locked."""
        made = cls(folder / "python", folder / "work")
        made.work.mkdir()
        (folder / "locked.txt").write_text(locked_versions())
        venv.create(made.folder, with_pip=False, symlinks=True)
        made.pip("install", "--quiet", "--constraint", str(folder / "locked.txt"), wanted)
        made.pip("check")
        return made

    def pip(self, *arguments: str) -> str:
        """The tests' pip, at work on this environment."""
        return run_alone([sys.executable, "-m", "pip", "--python", str(self.folder), *arguments], self.work)

    def run(self, command: str, *arguments: str, **environment: str) -> str:
        """One of its commands, in the folder of work; what it wrote."""
        return run_alone([str(self.folder / "bin" / command), *arguments], self.work, **environment)


def run_alone(command: list[str], folder: Path, **environment: str) -> str:
    """Runs a command that must succeed, with nothing of the checkout on its path; what it wrote."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "PYTHON"))}
    environment = {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels, by the name of their package."""
    source = checkout(tmp_path_factory.mktemp("wheels"))
    run_alone(["make", "wheels"], source)
    return {wheel.name.partition("-")[0]: wheel for wheel in (source / "dist").glob("*.whl")}


@pytest.mark.parametrize("package", SOURCES)
def test_a_wheel_has_one_package_whole_and_nothing_beside_it(wheels: dict[str, Path], package: str) -> None:
    assert wheels.keys() == SOURCES.keys()
    with zipfile.ZipFile(wheels[package]) as wheel:
        names = set(wheel.namelist())
    version = wheels[package].name.split("-")[1]
    described = {name for name in names if name.startswith(f"{package}-{version}.dist-info/")}
    of_the_tree = {
        f"{package}/{path.relative_to(SOURCES[package]).as_posix()}"
        for path in SOURCES[package].rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert names - described == of_the_tree
    assert f"{package}/py.typed" in names
    assert f"{package}-{version}.dist-info/licenses/LICENSE" in described


def test_the_client_and_its_command_get_a_result_without_the_server_beside_them(
    wheels: dict[str, Path], tmp_path: Path, gateway: Gateway
) -> None:
    caller = Environment.with_installed(f"{wheels['tidegate_client']}[cli]", tmp_path)
    assert "submit" in caller.run("tidegate", "--help")
    order = {"sku": "A-100", "quantity": 3}
    told = caller.run("tidegate", "submit", "quote", "-d", json.dumps(order), "--wait", TIDEGATE_URL=gateway.url)
    assert json.loads(told)["total"] == 954.84

    program = (
        "from tidegate_client import Client\n"
        f"with Client({gateway.url!r}) as client:\n"
        f"    print(client.submit('quote', {order}).result(timeout=60)['total'])\n"
    )
    assert caller.run("python", "-c", program) == "954.84\n"
