"""Translation of drivers' errors: the database can't be reached, a query took too long, or neither."""

import re
import sqlite3

import psycopg

from tidegate.errors import DatabaseSessionError, DatabaseTooSlowError, DatabaseUnreachableError

# Classes or single codes of SQLSTATE (PostgreSQL, appendix A) that pass: the same statement may succeed later.
_PASSING = (
    "08",  # connection
    "25006",  # read-only: a server that is no longer the primary, or whose operator says so
    "25P03",  # this process stood still in a transaction, and the server went on without it
    "40",  # a deadlock's victim, a conflict with another transaction or, on a standby, with its recovery
    "53",  # out of disk, memory, connections
    "55P03",  # a lock was not to be had in time
    "57",  # stopped by an operator or a time limit, shutting down, starting, ended as idle
    "58",  # files
)
# After these the connection is lost.
_LOST = ("08", "25P03", "57P")
# After these a commit may have happened: the server shut down while it waited for a standby, or does not know itself.
_UNKNOWN = ("08", "40003", "57P01", "57P02")
_STOPPED = "57014"
_IN_THE_WAY = {"40001", "40P01"}
_READ_ONLY = "25006"

_SQLITE_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
# PgBouncer's words, which have no code; by itself it takes none of ours.
_OPTIONS_REFUSED = "unsupported startup parameter"
_WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|COMMIT)\b")


def translated(
    error: BaseException, *, sql: str | None = None, commits: bool = False, takes_long: bool = False
) -> DatabaseUnreachableError | DatabaseTooSlowError | None:
    """Translates a driver's error into one of ours; None: the statement itself is at fault, the error stays as it is.

    `sql`: the statement that failed, None: there was no connection. `commits`: it stood alone or was the COMMIT, so
    that it may be done although its answer was lost. `takes_long`: it had a time limit of its own.
    """
    state = _sqlstate(error)
    code = _sqlite_code(error)
    if sql is None and _OPTIONS_REFUSED in str(error):
        return DatabaseSessionError(str(error).strip())
    if takes_long and (state == _STOPPED or code == sqlite3.SQLITE_INTERRUPT):
        return DatabaseTooSlowError("the question took longer than it may")
    if not _is_passing(error, state, code):
        return None
    lost = sql is None or (state.startswith(_LOST) if state else code is None)
    may_be_done = (
        commits and bool(sql and _WRITES.search(sql)) and code is None and (not state or state.startswith(_UNKNOWN))
    )
    return DatabaseUnreachableError(
        str(error).strip() or type(error).__name__,
        connection_lost=lost,
        may_be_done=may_be_done,
        was_in_the_way=state in _IN_THE_WAY,
    )


def is_read_only(error: BaseException) -> bool:
    """Whether the error says that the server can be reached but is read-only."""
    return _sqlstate(error) == _READ_ONLY


def _is_passing(error: BaseException, state: str, code: int | None) -> bool:
    if state:
        # A refused connection (password, name of the database) is an OperationalError; a statement's error is another.
        return state.startswith(_PASSING) or (state[:2] in {"28", "3D"} and isinstance(error, psycopg.OperationalError))
    if code is not None:
        return code in _SQLITE_PASSING
    # Without a code it is the driver's own error: the connection is gone.
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, sqlite3.OperationalError))


def _sqlstate(error: BaseException) -> str:
    return (getattr(error, "sqlstate", None) or "") if isinstance(error, psycopg.Error) else ""


def _sqlite_code(error: BaseException) -> int | None:
    """SQLite's primary result code; None for an error that has none."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
