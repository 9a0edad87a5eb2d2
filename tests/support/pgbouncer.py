"""A real PgBouncer in transaction mode before PostgreSQL: each transaction may have another session of the server."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.support.processes import ChildProcess, free_port, is_listening
from tests.support.waiting import wait_until

NOT_FOUND = "no pgbouncer found: put it on PATH (Debian: apt install pgbouncer)"

_SETTINGS = """\
[databases]
* = host=127.0.0.1 port={server_port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
{more}
"""


def find() -> str | None:
    """Where the program is."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def before(url: str, log: Path, more: str = "") -> Iterator[str]:
    """The URL of the same database through PgBouncer; `more`: lines of its settings. Skips the test where there is no
    PgBouncer; REQUIRE_PGBOUNCER=1: fails."""
    program = find()
    if program is None:
        if os.environ.get("REQUIRE_PGBOUNCER") == "1":
            pytest.fail(f"REQUIRE_PGBOUNCER=1, but {NOT_FOUND}")
        pytest.skip(NOT_FOUND)
    server, port = make_url(url), free_port()
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None  # it does not run as root
    with tempfile.TemporaryDirectory(prefix="tidegate-pgbouncer-") as folder:
        Path(folder).chmod(0o755)
        settings = Path(folder) / "pgbouncer.ini"
        settings.write_text(_SETTINGS.format(server_port=server.port, port=port, more=more))
        with ChildProcess([program, str(settings)], log=log, account=account) as process:
            wait_until(lambda: is_listening(port) or not process.is_running, description="PgBouncer listens")
            yield server.set(port=port).render_as_string(hide_password=False)
