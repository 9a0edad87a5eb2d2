"""Programs that write clients know every endpoint and every document of the API, by the checked-in and the live one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import REPOSITORY
from tests.support.web import Web

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(params=["checked in", "live"])
def document(request: pytest.FixtureRequest, web: Web, tmp_path: Path) -> Path:
    """The OpenAPI document, as a file."""
    path = tmp_path / "openapi.json"
    checked_in = REPOSITORY / "docs" / "openapi.json"
    is_live = request.param == "live"
    path.write_bytes(web.client.get("/openapi.json").get_data() if is_live else checked_in.read_bytes())
    return path


def generate(folder: Path, *command: str) -> str:
    """Runs a generator in a folder; returns what it says."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", *command], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_openapi_python_client_writes_a_function_for_each_endpoint(document: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("post_hooks: []\n")
    generate(
        tmp_path,
        *("-c", "from openapi_python_client.cli import app; app()", "generate", "--meta", "none"),
        *("--path", str(document), "--output-path", str(tmp_path / "client"), "--config", str(tmp_path / "config.yml")),
    )

    written = [path for path in (tmp_path / "client" / "api").rglob("*.py") if path.name != "__init__.py"]
    assert len(written) == len(endpoints(read(document)))
    for path in (tmp_path / "client").rglob("*.py"):
        compile(path.read_text(encoding="utf-8"), str(path), "exec")


def test_datamodel_code_generator_writes_a_class_for_each_document(document: Path, tmp_path: Path) -> None:
    generate(
        tmp_path,
        *("-m", "datamodel_code_generator", "--input", str(document), "--input-file-type", "openapi"),
        *("--openapi-scopes", "schemas", "paths", "parameters", "--output", str(tmp_path / "models.py")),
        *("--output-model-type", "pydantic_v2.BaseModel"),
    )

    generate(tmp_path, "-c", "import models")
    text = (tmp_path / "models.py").read_text(encoding="utf-8").lower().replace("_", "")
    missing = [name for name in read(document)["components"]["schemas"] if f"class {plain(name)}(" not in text]
    assert missing == []


def test_no_two_names_are_one_in_a_generated_client(document: Path) -> None:
    """Where it writes them in one case and without separators."""
    found = read(document)
    ids = [each["operationId"] for each in endpoints(found)]
    for names in (ids, list(found["components"]["schemas"])):
        assert len({plain(name) for name in names}) == len(names)


def test_every_body_has_a_schema(document: Path) -> None:
    """A generator passes over a submit whose media type has none."""
    for each in endpoints(read(document)):
        for media_type, content in each.get("requestBody", {}).get("content", {}).items():
            assert "schema" in content, (each["operationId"], media_type)


def read(document: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document.read_bytes())
    return found


def endpoints(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for path in document["paths"].values() for method, each in path.items() if method in METHODS]


def plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
