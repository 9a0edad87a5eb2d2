"""Programs that write clients know every endpoint and every document of the API, by the checked-in and the live one."""

import importlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import REPOSITORY
from tests.support.web import OPERATIONS, Web
from tests.support.web_server import WebServer

pytestmark = pytest.mark.long  # generators and compilers take half a minute each

METHODS = {"get", "post", "put", "patch", "delete"}


INSTALL_SECONDS = 120
NPM_PACKAGES = ("openapi-typescript@7", "typescript@5")
# With tests.support.operations' raw_echo and the routes submitBulk and submitBatch.
ALIKE = """
[operations.raw-echo]
downstream = "sample"
url = "http://127.0.0.1:1/echo"

[operations.bulk]
downstream = "sample"
url = "http://127.0.0.1:1/bulk"

[operations.batch]
downstream = "sample"
url = "http://127.0.0.1:1/batch"
"""


@pytest.fixture
def alike(tmp_path: Path, sqlite_url: str) -> Iterator[Web]:
    """A gateway whose operations and their inputs have names that differ, but not to a generator."""
    folder = tmp_path / "alike"
    folder.mkdir()
    modules = ("tests.support.operations", "tests.support.typed_operations", "tests.support.alike_operations")
    web = Web(folder, sqlite_url, operations_toml=OPERATIONS + ALIKE, operations=modules)
    yield web
    web.close()


@pytest.fixture(params=["checked in", "live", "alike"])
def document(request: pytest.FixtureRequest, web: Web, alike: Web, tmp_path: Path) -> Path:
    """The OpenAPI document, as a file."""
    path = tmp_path / "openapi.json"
    if request.param == "checked in":
        path.write_bytes((REPOSITORY / "docs" / "openapi.json").read_bytes())
    else:
        path.write_bytes((alike if request.param == "alike" else web).client.get("/openapi.json").get_data())
    return path


def generate(folder: Path, *command: str) -> str:
    """Runs a generator in a folder; returns what it says."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", *command], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def generate_python(document: Path, folder: Path, package: str) -> None:
    """Makes a package with openapi-python-client."""
    (folder / "config.yml").write_text("post_hooks: []\n")
    generate(
        folder,
        *("-c", "from openapi_python_client.cli import app; app()", "generate", "--meta", "none"),
        *("--path", str(document), "--output-path", str(folder / package), "--config", str(folder / "config.yml")),
    )


def test_openapi_python_client_writes_a_function_for_each_endpoint(document: Path, tmp_path: Path) -> None:
    generate_python(document, tmp_path, "client")
    written = [path for path in (tmp_path / "client" / "api").rglob("*.py") if path.name != "__init__.py"]
    assert len(written) == len(endpoints(read(document)))
    for path in (tmp_path / "client").rglob("*.py"):
        compile(path.read_text(encoding="utf-8"), str(path), "exec")


def test_a_generated_client_submits_and_reads(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = WebServer(tmp_path, sqlite_url)
    server.start()
    try:
        document = tmp_path / "openapi.json"
        document.write_bytes(server.client.get("/openapi.json").content)
        generate_python(document, tmp_path, "made_client")
        monkeypatch.syspath_prepend(str(tmp_path))
        made = importlib.import_module("made_client")
        quote = importlib.import_module("made_client.api.operations.submit_quote")
        csv_profile = importlib.import_module("made_client.api.operations.submit_csv_profile")
        read_job = importlib.import_module("made_client.api.jobs.read_job")
        csv = importlib.import_module("made_client.types").File(payload=io.BytesIO(b"a,b\n1,2\n"))
        with made.Client(base_url=server.url) as client:
            job = quote.sync(client=client, body={"sku": "A-100", "quantity": 3})
            assert (job.operation, job.state) == ("quote", "queued")
            assert read_job.sync(client=client, job_id=job.id).id == job.id
            assert csv_profile.sync(client=client, body=csv).operation == "csv_profile"
    finally:
        server.close()


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


@pytest.mark.long
def test_openapi_typescript_types_every_endpoint(document: Path, tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("there is no node with npm")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(tmp_path), *NPM_PACKAGES]
    try:
        got = subprocess.run(command, capture_output=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm could not get {NPM_PACKAGES} within {INSTALL_SECONDS} s")
    if got.returncode:
        pytest.skip(f"npm could not get {NPM_PACKAGES}: {got.stderr.decode()[-300:]}")
    programs, types = tmp_path / "node_modules" / ".bin", tmp_path / "api.ts"
    subprocess.run([programs / "openapi-typescript", document, "-o", types], timeout=60, check=True)
    subprocess.run([programs / "tsc", "--noEmit", "--strict", types], timeout=60, check=True)
    paths, _, _ = types.read_text(encoding="utf-8").partition("export interface webhooks")
    assert paths.count(': operations["') == len(endpoints(read(document)))


def test_an_operations_name_changes_no_other_routes_id(alike: Web) -> None:
    paths = alike.client.get("/openapi.json").get_json()["paths"]
    assert paths["/v1/operations/{operation}/jobs/bulk"]["post"]["operationId"] == "submitBulk"
    assert paths["/v1/operations/{operation}/jobs/batch"]["post"]["operationId"] == "submitBatch"
    assert paths["/v1/operations/bulk/jobs"]["post"]["operationId"] == "submit.bulk2"
    assert paths["/v1/operations/batch/jobs"]["post"]["operationId"] == "submit.batch2"


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
