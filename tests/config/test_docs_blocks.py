"""The Python and TOML that README.md and docs/ show: typed, read, and run as they stand there."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from config.operations_file import read_operations_file
from tests.support.processes import REPOSITORY
from tests.support.web import Web

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def blocks(language: str) -> dict[str, str]:
    """Each block of this language by a name that says where it stands: `README-189`, behind its line."""
    return {
        f"{page.stem}-{text.count(chr(10), 0, found.start()) + 1}": found[1]
        for page in PAGES
        for text in [page.read_text(encoding="utf-8")]
        for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    }


def test_python_blocks_keep_strict_types(tmp_path: Path) -> None:
    files = []
    (readmes,) = [text for name, text in blocks("python").items() if name.startswith("README") and "def word_" in text]
    for name, text in blocks("python").items():
        files.append(tmp_path / f"{name.replace('-', '_')}.py")
        goes_on = "word_count" in text and text != readmes
        files[-1].write_text(f"{readmes}\n{text}" if goes_on else text)
    assert len(files) >= 5

    template = (REPOSITORY / "docs" / "your-own-operations").rglob("*.py")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *map(str, [*files, *template])],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", blocks("toml"))
def test_toml_blocks_are_good_operations_files(name: str, tmp_path: Path) -> None:
    (tmp_path / "operations.toml").write_text(blocks("toml")[name])
    (tmp_path / "order.schema.json").write_text(next(text for text in blocks("json").values() if '"required"' in text))
    found = read_operations_file(tmp_path / "operations.toml", max_result=1)

    assert found.faults == ()
    assert found.operations or found.queues or found.downstreams


def own_operation(folder: Path, name: str, options: str) -> None:
    """README's operation as a module of this name, with other arguments of its decorator."""
    (text,) = [text for name, text in blocks("python").items() if name.startswith("README") and "def word_" in text]
    assert text.count('@operation(timeout="5m")') == 1
    (folder / f"{name}.py").write_text(text.replace('@operation(timeout="5m")', f"@operation({options})"))


@pytest.mark.parametrize(("options", "queue"), [('timeout="5m"', "cpu"), ('timeout="5m", queue="io"', "io")])
def test_readmes_operation_is_served_and_shown(
    options: str, queue: str, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"readme_{queue}"
    own_operation(tmp_path, name, options)
    monkeypatch.syspath_prepend(tmp_path)
    web = Web(tmp_path, sqlite_url, operations=(name,))
    try:
        assert web.client.get("/").status_code == 200
        (shown,) = [
            each for each in web.client.get("/v1/operations").get_json()["operations"] if each["name"] == "word_count"
        ]
        assert shown["timeout"] == 300
        assert web.submit("word_count", b'{"lines": ["a b", "a"]}').status_code == 202
        made = importlib.import_module(name).word_count
        assert made.queue == queue
    finally:
        web.close()
        sys.modules.pop(name, None)
