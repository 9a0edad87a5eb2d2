"""Fixtures of all tiers: fresh databases and a broker; the marks of the tiers; the beginning and end of a run."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import databases, postgresql, run, sqlite
from tidegate.database.connection import Database
from tidegate.operations import connections
from tidegate.stores import Store

pytest_plugins = ["tests.support.node_fixtures"]

_TIERS = {
    "unit": "nothing is started; milliseconds",
    "conformance": "what both kinds of database must do alike",
    "system": "the whole stack as a user starts it",
    "simulation": "the simulated cluster; random moves and generated requests, some thousand of each",
    "attacks": "somebody means harm to a whole stack",
    "stack": "docker-compose.yml on a Docker engine; only `make test-stack` runs them",
}

# A tier whose every test is one of `make test-long`; single files say so themselves.
_LONG_TIERS = {"system"}

# The same examples in every run, so that a failure is one of the change and not of the day; HYPOTHESIS_PROFILE=search
# looks for new ones, and for longer.
_SLOW = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture]
hypothesis.settings.register_profile(
    "repeat", deadline=None, derandomize=True, database=None, max_examples=60, suppress_health_check=_SLOW
)
hypothesis.settings.register_profile(
    "search", deadline=None, database=None, max_examples=2000, suppress_health_check=_SLOW
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


def pytest_configure(config: pytest.Config) -> None:
    """Begins the run in the main process, joins it in an xdist worker."""
    for tier, meaning in _TIERS.items():
        config.addinivalue_line("markers", f"{tier}: {meaning} (set by the folder)")
    config.addinivalue_line("markers", f"{databases.MARK}(why): runs on both databases, as tests/conformance does")
    config.addinivalue_line("markers", "long: kills whole stacks or waits outages out; only `make test-long` runs them")
    config.addinivalue_line("markers", "nodes: has workers or a scheduler beside it (set by the fixtures)")
    config.addinivalue_line("markers", "postgresql: needs PostgreSQL server binaries (set by the fixtures)")
    if hasattr(config, "workerinput"):
        run.join(Path(config.workerinput["run_folder"]))
    else:
        run.begin()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Closes the connections of HTTP operations; in the main process ends what is still running."""
    for pool in connections._pools.values():
        pool.close()
    if not hasattr(config, "workerinput"):
        run.end()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells an xdist worker which run it belongs to."""
    node.workerinput["run_folder"] = str(run.folder())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs on both databases what is to run on both."""
    test = metafunc.definition
    if "database_url" in metafunc.fixturenames and databases.is_for_both(test) and not databases.names_its_own(test):
        metafunc.parametrize("database_url", databases.BOTH, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks each test with its tier and its server, and spreads the files of each tier over the run.

    Side by side, as `make test` runs them, four files of the system tier would be forty processes on two cores.
    """
    config.stash[databases.UNEXPLAINED] = databases.on_both_without_a_reason(items)
    files: dict[str, dict[Path, None]] = {}
    for item in items:
        tier = _tier(item.path)
        files.setdefault(tier, {})[item.path] = None
        if tier in _TIERS:
            item.add_marker(tier)
        if tier in _LONG_TIERS:
            item.add_marker("long")
        if "postgresql_url" in getattr(item, "fixturenames", ()):
            item.add_marker("postgresql")
    place = {path: (number + 0.5) / len(paths) for paths in files.values() for number, path in enumerate(paths)}
    items.sort(key=lambda item: place[item.path])


def _tier(path: Path) -> str:
    return path.relative_to(Path(__file__).parent).parts[0]


@pytest.fixture
def sqlite_url() -> Iterator[str]:
    """URL of a fresh migrated SQLite database: in memory where there is a folder there, for each commit is synced."""
    with tempfile.TemporaryDirectory(dir=run.folder(), ignore_cleanup_errors=True) as folder:
        yield sqlite.fresh_database(Path(folder))


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """URL of a fresh migrated PostgreSQL database. Skips without server binaries; REQUIRE_POSTGRESQL=1: fails."""
    if postgresql.find_binaries() is None:
        if os.environ.get("REQUIRE_POSTGRESQL") == "1":
            pytest.fail(f"REQUIRE_POSTGRESQL=1, but {postgresql.NOT_FOUND}")
        pytest.skip(postgresql.NOT_FOUND)
    with postgresql.fresh_database() as url:
        yield url


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of a fresh migrated database: SQLite, where a test does not ask for the other or for both."""
    url: str = request.getfixturevalue(f"{getattr(request, 'param', 'sqlite')}_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The fresh database, opened."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> Store:
    """The faces of the fresh database."""
    return Store(database)
