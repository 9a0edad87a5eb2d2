"""docs/your-own-operations.md as a stranger follows it, from an empty folder, as far as it goes without Docker."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.support.own_operations import PAGE, TEMPLATE, checkout, commands, locked_versions
from tests.support.processes import REPOSITORY, ChildProcess, free_port
from tests.support.shell import sh
from tests.support.waiting import wait_until
from tidegate_client import Client

# Whether all of the library can be imported, and whether another name came along.
EVERY_MODULE = """\
import importlib, importlib.util, pkgutil, tidegate
for found in pkgutil.walk_packages(tidegate.__path__, "tidegate."):
    importlib.import_module(found.name)
print([name for name in OTHERS if importlib.util.find_spec(name)])
"""


@dataclass(frozen=True)
class Stranger:
    """Somebody with an empty folder beside the source, and ports of their own."""

    folder: Path
    port: int
    partner_port: int

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "PYTHON"))}
        return {
            **kept,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PIP_CONSTRAINT": str(self.folder / "locked.txt"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PARTNER_URL": f"http://127.0.0.1:{self.partner_port}",
            "TIDEGATE_PORT": str(self.port),
            "TIDEGATE_SAMPLE_PORT": "0",
        }

    def types(self, block: str, *, folder: str = "acme") -> str:
        """Types the lines of a block; what they wrote."""
        return sh(block, cwd=self.folder / folder, environment=self.environment)

    def starts(self, command: str, name: str) -> ChildProcess:
        """Types a command that stays."""
        line = f"cd {self.folder / 'acme'} && exec {command}"
        process = ChildProcess(
            ["env", "-u", "PYTHONPATH", "sh", "-c", line],
            log=self.folder / f"{name}.log",
            environment={**self.environment, "PWD": str(self.folder / "acme")},
        )
        process.start()
        return process


@pytest.fixture
def stranger(tmp_path: Path) -> Stranger:
    """`python3` is the Python of the tests, and what comes from PyPI comes in the versions that are locked."""
    checkout(tmp_path)
    (tmp_path / "locked.txt").write_text(locked_versions())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(Path(sys.base_prefix) / "bin" / Path(sys.executable).resolve().name)
    return Stranger(tmp_path, free_port(), free_port())


def test_the_page_names_every_file_of_the_template() -> None:
    text = PAGE.read_text(encoding="utf-8")
    files = {path.relative_to(TEMPLATE).as_posix() for path in TEMPLATE.rglob("*") if path.is_file()}
    files = {name for name in files if not name.endswith((".pyc", "__init__.py"))}
    assert [
        name for name in files - {".gitignore", "README.md", "requirements-dev.txt"} if f"`{name}`" not in text
    ] == []


def test_from_an_empty_folder_to_tested_operations_that_run(stranger: Stranger) -> None:
    (begin,), (write,), (by_hand, tries) = (
        commands(heading) for heading in ("1. Begin", "2. Write it and test it", "3. Try it by hand")
    )
    stranger.types(begin, folder=".")
    assert "3 passed" in stranger.types(write)
    wheels = {path.name.split("-")[0] for path in (stranger.folder / "acme" / "wheels").iterdir()}
    assert wheels == {"tidegate", "tidegate_client"}
    others = sorted(
        {path.parent.name for path in REPOSITORY.glob("*/*.py")} - {"tidegate", "tests"}
    )  # tests/ is theirs
    assert {"config", "embedded", "migrations", "tasks", "webapp"} <= set(others)
    (stranger.folder / "acme" / "every_module.py").write_text(f"OTHERS = {others}\n{EVERY_MODULE}")
    assert stranger.types(".venv/bin/python -m pip check && .venv/bin/python -I every_module.py").endswith("\n[]\n")

    checked = stranger.types(by_hand)
    assert "no fault in 3 operation(s) and 1 downstream(s)" in checked
    assert "order: POST ${PARTNER_URL:-http://127.0.0.1:9000}/v1/customers/{customer}/orders?lang={lang}" in checked
    assert "invoice: acme/operations.py:" in checked

    exports = next(line for line in by_hand.splitlines() if line.startswith("export "))
    secret = "CLIENT_SECRET_FILE=secrets/client_secret"
    assert f"(`{secret} python3 sample_partner.py --port 9000`)" in PAGE.read_text(encoding="utf-8")
    run = 'make -C ../tidegate run TIDEGATE_DATA="$PWD/data"'
    assert f"`{run}`" in PAGE.read_text(encoding="utf-8")
    partner = stranger.starts(f"env {secret} python3 sample_partner.py --port {stranger.partner_port}", "partner")
    processes = [partner]
    try:
        partner_is_there = f"http://127.0.0.1:{stranger.partner_port}/health"
        wait_until(lambda: answers(partner_is_there), description="the partner is there")
        said = stranger.types(f"{exports}\n{tries}")
        assert said.count("The job succeeds.") == 2
        assert "POST ${PARTNER_URL:-http://127.0.0.1:9000}/v1/customers/AC%2FDC/orders?lang=de" in said

        processes.append(stranger.starts(f"sh -c '{exports}; exec {run}'", "gateway"))
        url = f"http://127.0.0.1:{stranger.port}"
        wait_until(lambda: answers(f"{url}/health/ready"), description="it is ready", timeout_seconds=60)
        with Client(url) as client:
            lines = [{"price": "9.90", "quantity": 2}]
            assert client.submit("invoice", lines).result(timeout=60) == {"total": "19.80", "currency": "EUR"}
            order = {"customer": "AC/DC", "lang": "de", "order": {"total": 19.80}}
            result = client.submit("order", order).result(timeout=60)
            assert result == {"customer": "AC/DC", "lang": "de", "total": 19.80}
    finally:
        for process in reversed(processes):
            process.stop(timeout_seconds=15)
    assert "only-a-sample" not in json.dumps([process.logs() for process in processes])


def answers(url: str) -> bool:
    """Whether it says 200."""
    try:
        return httpx2.get(url, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False
