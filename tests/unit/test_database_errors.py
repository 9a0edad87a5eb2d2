"""Which errors of the drivers pass by themselves, which lost a connection, and which leave open what was done."""

import sqlite3

import psycopg
import pytest

from tidegate.database.driver_errors import translated
from tidegate.errors import DatabaseTooSlowError, DatabaseUnreachableError

_INSERT = "INSERT INTO jobs VALUES (1)"


def of_postgresql(sqlstate: str) -> psycopg.Error:
    return psycopg.errors.lookup(sqlstate)("said by the server")


def of_sqlite(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("said by SQLite")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    "sqlstate",
    [
        *("08006", "25006", "25P03", "40001", "40P01", "53100", "53200", "53300", "55P03"),
        *("57014", "57P01", "57P02", "57P03", "57P05", "58030"),
    ],
)
def test_these_pass(sqlstate: str) -> None:
    assert isinstance(translated(of_postgresql(sqlstate), sql=_INSERT), DatabaseUnreachableError)


@pytest.mark.parametrize("sqlstate", ["42501", "42P01", "42703", "23505", "22003", "22021", "54000", "XX000"])
def test_these_are_faults(sqlstate: str) -> None:
    assert translated(of_postgresql(sqlstate), sql=_INSERT) is None


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_READONLY, True),
        (sqlite3.SQLITE_READONLY_DBMOVED, True),
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_IOERR_FSYNC, True),
        (sqlite3.SQLITE_CANTOPEN, True),
        (sqlite3.SQLITE_ERROR, False),
        (sqlite3.SQLITE_CONSTRAINT, False),
        (sqlite3.SQLITE_CORRUPT, False),
        (sqlite3.SQLITE_NOTADB, False),
        (sqlite3.SQLITE_TOOBIG, False),
    ],
)
def test_sqlite_by_its_code(code: int, passes: bool) -> None:
    assert isinstance(translated(of_sqlite(code), sql=_INSERT), DatabaseUnreachableError) is passes


@pytest.mark.parametrize(
    ("error", "sql", "commits", "may_be_done"),
    [
        (psycopg.OperationalError("the connection is gone"), _INSERT, True, True),
        (psycopg.OperationalError("the connection is gone"), "COMMIT", True, True),
        (psycopg.OperationalError("the connection is gone"), _INSERT, False, False),
        (psycopg.OperationalError("the connection is gone"), "SELECT 1", True, False),
        (psycopg.OperationalError("nobody listens"), None, False, False),
        (of_postgresql("57P01"), _INSERT, True, True),
        (of_postgresql("57014"), _INSERT, True, False),
        (of_postgresql("25006"), _INSERT, True, False),
        (of_postgresql("53100"), "COMMIT", True, False),
        (of_sqlite(sqlite3.SQLITE_FULL), "COMMIT", True, False),
    ],
)
def test_what_may_be_done_all_the_same(error: Exception, sql: str | None, commits: bool, may_be_done: bool) -> None:
    """A lost answer to a statement that stood alone, or to a COMMIT; not what the server itself refused."""
    found = translated(error, sql=sql, commits=commits)
    assert isinstance(found, DatabaseUnreachableError)
    assert found.may_be_done is may_be_done


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (psycopg.OperationalError("the connection is gone"), True),
        (psycopg.InterfaceError("the connection is closed"), True),
        (of_postgresql("57P01"), True),
        (of_postgresql("57014"), False),
        (of_postgresql("25006"), False),
        (of_postgresql("53100"), False),
        (of_sqlite(sqlite3.SQLITE_BUSY), False),
    ],
)
def test_whether_the_connection_is_lost(error: Exception, lost: bool) -> None:
    found = translated(error, sql=_INSERT)
    assert isinstance(found, DatabaseUnreachableError)
    assert found.connection_lost is lost


@pytest.mark.parametrize("error", [of_postgresql("57014"), of_sqlite(sqlite3.SQLITE_INTERRUPT)])
def test_a_time_limit_of_its_own_is_no_outage(error: Exception) -> None:
    assert isinstance(translated(error, sql="SELECT 1", takes_long=True), DatabaseTooSlowError)
    assert isinstance(translated(error, sql="SELECT 1"), DatabaseUnreachableError)
