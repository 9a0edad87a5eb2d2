"""`tidegate keys`, `check` and `settings`: they work where the server is, and say so where it is not."""

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY
from tidegate.access.key_store import KeyStore
from tidegate.database.connection import Database


def tidegate(*arguments: str, folder: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    return subprocess.run(
        [sys.executable, "-m", "tidegate_client", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**kept, "PYTHONPATH": str(REPOSITORY / "client"), **environment},
        timeout=60,
        check=False,
    )


def test_keys_are_made_listed_and_revoked(sqlite_url: str) -> None:
    made = tidegate("keys", "create", "shop", "--role", "operator", TIDEGATE_DATABASE_URL=sqlite_url)
    assert made.returncode == 0, made.stderr
    database = Database(sqlite_url)
    try:
        (key,) = KeyStore(database).list()
        assert (key.client, key.role) == ("shop", "operator")
    finally:
        database.close()
    assert key.id in tidegate("keys", "list", TIDEGATE_DATABASE_URL=sqlite_url).stdout
    assert tidegate("keys", "revoke", key.id, TIDEGATE_DATABASE_URL=sqlite_url).returncode == 0
    assert tidegate("keys", "revoke", key.id, TIDEGATE_DATABASE_URL=sqlite_url).returncode != 0, "there is none left"


def test_check_says_what_a_good_file_has(tmp_path: Path) -> None:
    file = tmp_path / "operations.toml"
    file.write_text(
        '[operations.geocode]\nurl = "http://${HOST:-h}/"\nheaders = { Authorization = "Bearer ${GEOCODER_KEY}" }\n'
    )
    done = tidegate("check", "operations.toml", folder=tmp_path, GEOCODER_KEY="hidden")
    assert done.returncode == 0, done.stderr
    assert "operations.toml: no fault in 2 operation(s) and 0 downstream(s)" in done.stdout
    assert "geocode: POST http://${HOST:-h}/, downstream geocode" in done.stdout
    assert re.search(r"  csv_profile: \S+/csv_profile.py:\d+, queue cpu, downstream csv_profile\n", done.stdout)
    assert done.stdout.rstrip().endswith("in their environment: GEOCODER_KEY")
    assert "hidden" not in done.stdout

    missing = tidegate("check", "operations.toml", folder=tmp_path)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith(
        "operations.toml:3: operations.geocode.headers.Authorization: ${GEOCODER_KEY} is not set in the environment"
    )
    assert tidegate("check", "operations.toml", "--without-secrets", folder=tmp_path).stdout == done.stdout


def test_check_without_a_file_takes_that_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "ours.toml").write_text('[operations.geocode]\nurl = "http://h/"\n')
    (tmp_path / ".env").write_text("TIDEGATE_OPERATIONS_FILE=ours.toml\n")
    assert tidegate("check", folder=tmp_path).stdout.startswith("ours.toml: no fault in 2 operation(s)")

    (tmp_path / ".env").write_text("TIDEGATE_PORT=x\nTIDEGATE_OPERATIONS_FILE=theirs.toml\n")
    done = tidegate("check", folder=tmp_path)
    assert done.returncode == 2
    assert [line.rpartition(": ")[0] for line in done.stderr.splitlines()] == [
        ".env:1: TIDEGATE_PORT",
        ".env:2: TIDEGATE_OPERATIONS_FILE: theirs.toml can't be read",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[operations.a]\nurl = "http://a/"\n\nspeed = 3\n', "operations.toml:4: operations.a.speed"),
        ("[operations.a]\nurl = http://a/\n", "operations.toml:2: Invalid value"),
        (
            '[downstreams.geocoder]\n[operations.a]\nurl = "http://a/"\ndownstream = "geocodr"\n',
            "operations.toml:4: operations.a.downstream: 'geocodr' is declared nowhere",
        ),
        (
            '[operations.a]\nurl = "ftp://a/"\n[operations.b]\nurl = "http://b/"\ntimeout = "soon"\n',
            "operations.toml:2: operations.a.url: write an absolute http:// or https:// URL\noperations.toml:5:",
        ),
    ],
)
def test_check_names_file_and_line_of_each_fault(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "operations.toml").write_text(text)
    done = tidegate("check", "operations.toml", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(told)


def test_settings_are_those_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TIDEGATE_PORT=8123\n")
    done = tidegate("settings", folder=tmp_path, TIDEGATE_URL="http://gateway", TIDEGATE_KEY="tg_hunter2")
    assert done.returncode == 0, done.stderr
    assert "8123" in done.stdout
    assert "hunter2" not in done.stdout


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine that has the client and none of the server's code or libraries: the folder of its packages."""
    packages = tmp_path_factory.mktemp("packages")
    shutil.copytree(REPOSITORY / "client" / "tidegate_client", packages / "a" / "b" / "tidegate_client")
    return packages / "a" / "b"


@pytest.mark.parametrize("has_library", [False, True])
def test_where_the_server_is_not_installed_that_is_said(elsewhere: Path, tmp_path: Path, has_library: bool) -> None:
    if has_library:
        (tmp_path / "tidegate").symlink_to(REPOSITORY / "tidegate")
    for arguments in (["keys", "list"], ["settings"], ["check", "x.toml"]):
        done = tidegate(*arguments, folder=elsewhere, PYTHONPATH=f"{elsewhere}:{tmp_path}")
        assert done.returncode == 1
        assert done.stderr.startswith("Error: this needs Tidegate's server")


def test_the_library_needs_its_http_client_only_and_the_command_says_what_it_misses(
    elsewhere: Path, tmp_path: Path
) -> None:
    """A Python that has httpx2 and what that needs, and no click."""
    venv.create(tmp_path / "python", with_pip=False, symlinks=True)
    (library,) = (tmp_path / "python").glob("lib/python*/site-packages")
    installed = Path(sys.modules["pydantic"].__file__ or "").parents[1]
    for name in ("httpx2", "httpcore2", "anyio", "idna", "h11", "truststore", "typing_extensions"):
        for part in (*installed.glob(name), *installed.glob(f"{name}.py"), *installed.glob(f"{name}-*.dist-info")):
            (library / part.name).symlink_to(part)
    python = str(tmp_path / "python" / "bin" / "python")
    code = "import tidegate_client; tidegate_client.Client('http://127.0.0.1:1').close()"
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(elsewhere)}
    subprocess.run([python, "-c", code], env=kept, check=True, timeout=60)
    done = subprocess.run([python, "-m", "tidegate_client"], env=kept, check=False, timeout=60, capture_output=True)
    assert done.returncode == 1
    assert done.stderr.decode() == "The command line needs click: pip install 'tidegate-client[cli]'\n"
