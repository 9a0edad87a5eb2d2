"""The Makefile: a PYTHON that the virtual environment is not made with is told."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY

MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="it is about make")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout with an environment of this Python, in which nothing has to be installed."""
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    venv.create(tmp_path / ".venv", with_pip=False)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(MAKE), "--dry-run", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)


def test_another_python_than_that_of_the_environment_is_told_and_nothing_is_done(folder: Path) -> None:
    other = folder / "python"
    other.write_text("#!/bin/sh\necho /elsewhere 3.12.1\n")
    other.chmod(0o755)
    told = make(folder, "run", f"PYTHON={other}")
    assert told.returncode == 2
    assert "Python " + " ".join([sys.base_prefix, sys.version.split()[0]]) in told.stderr
    assert "is /elsewhere 3.12.1; `make clean` first" in told.stderr
    assert make(folder, "run", f"PYTHON={folder}/nothing").returncode == 2


def test_the_same_python_and_cleaning_go_on(folder: Path) -> None:
    for arguments in (["run"], ["run", f"PYTHON={sys.executable}"], ["clean", "PYTHON=/nothing"]):
        done = make(folder, *arguments)
        assert done.returncode == 0 or "No rule to make target" in done.stderr, done.stderr
        assert "leave PYTHON out" not in done.stderr
