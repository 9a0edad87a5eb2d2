"""One question that takes long is no outage: it has a time limit and an answer of its own, and nobody else notices."""

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy.engine import make_url

from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from tidegate.database import UNREACHABLE, Database
from tidegate.errors import DatabaseTooSlowError, DatabaseUnreachableError

_PATIENCE = timedelta(seconds=0.6)
_SLEEP = "SELECT pg_sleep(5)"
_FOREVER = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


@pytest.fixture
def database(postgresql_url: str) -> Iterator[Database]:
    opened = Database(postgresql_url, patience=_PATIENCE)
    yield opened
    opened.close()


def answers(database: Database) -> bool:
    with database.reading() as connection:
        return connection.exec_driver_sql("SELECT 1").scalar_one() == 1


def test_a_statement_that_takes_too_long_is_stopped_by_the_server_and_shuts_nobody_out(database: Database) -> None:
    with pytest.raises(UNREACHABLE) as raised, database.reading() as connection:
        connection.exec_driver_sql(_SLEEP)
    assert isinstance(raised.value, DatabaseUnreachableError)
    assert not raised.value.connection_lost
    assert answers(database)


def test_a_connection_that_was_cut_shuts_nobody_out_while_the_database_answers_others(database: Database) -> None:
    """Behind a pooler that drops the server's own time limit, the watchdog cuts."""
    with pytest.raises(UNREACHABLE) as raised, database.reading() as connection:  # noqa: PT012 - one session
        connection.exec_driver_sql("SET statement_timeout = 0")
        connection.exec_driver_sql(_SLEEP)
    assert isinstance(raised.value, DatabaseUnreachableError)
    assert raised.value.connection_lost
    assert answers(database)


def test_connections_that_are_all_busy_shut_nobody_out(postgresql_url: str) -> None:
    database = Database(postgresql_url, pool_size=1, patience=timedelta(seconds=5))
    held = [database.engine.raw_connection() for _ in range(3)]
    with pytest.raises(UNREACHABLE):
        answers(database)
    for connection in held:
        connection.close()
    assert answers(database)
    database.close()


def test_who_is_not_answered_at_all_is_refused_at_once_from_then_on(postgresql_url: str) -> None:
    url = make_url(postgresql_url)
    with Proxy(url.port or 5432) as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        database = Database(through, patience=_PATIENCE)
        assert answers(database)
        proxy.stall()
        with pytest.raises(UNREACHABLE):
            answers(database)
        began = time.monotonic()
        with pytest.raises(UNREACHABLE):
            answers(database)
        assert time.monotonic() - began < 0.1
        proxy.forward()
        wait_until(lambda: _answers_again(database), description="it is found again")
        database.close()


def _answers_again(database: Database) -> bool:
    try:
        return answers(database)
    except UNREACHABLE:
        return False


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_long_question_has_more_time_than_others_and_then_an_error_of_its_own(
    request: pytest.FixtureRequest, kind: str
) -> None:
    database = Database(request.getfixturevalue(f"{kind}_url"), patience=timedelta(seconds=0.3))
    with database.long_reading(timedelta(seconds=5)) as connection:
        if not database.is_sqlite:
            connection.exec_driver_sql("SELECT pg_sleep(0.6)")
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    for _ in range(2):
        with pytest.raises(DatabaseTooSlowError), database.long_reading(timedelta(seconds=0.2)) as connection:
            connection.exec_driver_sql(_FOREVER)
    assert answers(database)
    with database.reading() as connection:
        limit = "0" if database.is_sqlite else connection.exec_driver_sql("SHOW statement_timeout").scalar_one()
    assert limit in {"0", "270ms"}, "who has the connection next has the usual one"
    database.close()
