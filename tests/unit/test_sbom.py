"""The list of parts, by the tool that `make sbom` installs: CI has it, others after their first `make sbom`."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import REPOSITORY

TOOL = Path(sys.prefix) / "sbom" / "bin"
_FILES = ("Dockerfile", "docker-compose.yml", "requirements.txt", "requirements-stack.txt", "pyproject.toml")
# The schema's own validator comes with the tool.
_VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(str(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()) or "") or 0)
"""


@pytest.fixture(scope="module")
def bom(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Made as the Makefile does, of a copy."""
    if not TOOL.exists():
        pytest.skip("`make sbom` has not been run here")
    folder = tmp_path_factory.mktemp("sources")
    for name in (*_FILES, "README.md", "LICENSE", "client/pyproject.toml", "config/stack/sbom.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    made = ("requirements", "--output-reproducible", "--pyproject", "pyproject.toml", "-o", "packages.json")
    subprocess.run(
        [TOOL / "cyclonedx-py", *made, "requirements-stack.txt"], cwd=folder, check=True, capture_output=True
    )
    command = [sys.executable, "config/stack/sbom.py", "packages.json"]
    text = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    checked = subprocess.run(
        [TOOL / "python", "-c", _VALIDATE], input=text, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    found: dict[str, Any] = json.loads(text)
    return found


def test_every_locked_package_of_the_image_is_listed_with_its_hashes(bom: dict[str, Any]) -> None:
    text = "".join((REPOSITORY / name).read_text() for name in ("requirements.txt", "requirements-stack.txt"))
    locked = {
        f"pkg:pypi/{name}@{version}" for name, version in re.findall(r"^([a-z0-9-]+)==([\w.]+)", text, re.MULTILINE)
    }

    listed = {part["purl"]: part for part in bom["components"] if part.get("purl", "").startswith("pkg:pypi/")}

    assert listed.keys() == locked
    assert all(reference["hashes"] for part in listed.values() for reference in part["externalReferences"])


def test_the_images_and_the_client_are_listed(bom: dict[str, Any]) -> None:
    named = {
        part["name"]: part["version"] for part in bom["components"] if not part.get("purl", "").startswith("pkg:pypi/")
    }
    assert named.keys() == {"python", "postgres", "redis", "prom/prometheus", "tidegate-client"}
    assert f"postgres:{named['postgres']}" in (REPOSITORY / "docker-compose.yml").read_text()
    assert f"python:{named['python']}" in (REPOSITORY / "Dockerfile").read_text()


def test_all_of_them_are_parts_of_tidegate(bom: dict[str, Any]) -> None:
    root = bom["metadata"]["component"]
    assert root["name"] == "tidegate"
    (direct,) = [each for each in bom["dependencies"] if each["ref"] == root["bom-ref"]]
    assert set(direct["dependsOn"]) == {part["bom-ref"] for part in bom["components"]}
