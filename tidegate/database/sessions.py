"""PostgreSQL's sessions: the options that ours need, how they get them, and whether a pooled one is alive still."""

import select
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError

from tidegate.errors import DatabaseSessionError

NOT_BY_INDEX = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit")
"""Settings of PostgreSQL, off for us. All that we ask has an index to go by, and PostgreSQL does not know it: its
statistics of a queue are of a time when other rows were there, and a plan that it keeps is of that time, too."""

BY_INDEX_ORDER = {"enable_sort": "off", "enable_bitmapscan": "off"}
"""Settings of PostgreSQL for a query whose rows are to come in the order of an index."""

PREPARE_THRESHOLD = 5
"""psycopg's own."""

_LONGEST_PAUSE = timedelta(seconds=5)
_OF_PATIENCE = 0.9
_FIRST_WITH_CLIENT_CHECKS = 140_000
# One round trip. An older server does not know the second one, and would refuse a session that names it at its start.
_LOOK = """
SELECT name, CASE name WHEN 'idle_session_timeout' THEN set_config(name, '0', false) ELSE setting END
FROM pg_settings WHERE name = ANY(%s)
"""


class OptionsBy(StrEnum):
    """When PostgreSQL is told our options."""

    SESSION = "session"
    TRANSACTION = "transaction"


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """How connections to PostgreSQL are made; SQLite has none of it.

    `options_by`: with a session, once, as it begins; or with each transaction, where a pooler gives each another
    session. Then a statement that stands alone is a transaction, too. `prepare_threshold`: executions after which a
    session keeps a statement's plan; None: never. `most`: connections of one pool; None: thrice its size.
    """

    options_by: OptionsBy = OptionsBy.SESSION
    prepare_threshold: int | None = PREPARE_THRESHOLD
    most: int | None = None

    @property
    def are_shared(self) -> bool:
        """Whether each transaction may have another session, which knows nothing of the one before."""
        return self.options_by is OptionsBy.TRANSACTION

    def share(self, options: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """These options, parted into those of a session and those of each transaction."""
        return ({}, options) if self.are_shared else (options, {})

    def pool(self, size: int) -> tuple[int, int]:
        """How many connections stay in a pool of this size, and how many there may be beyond."""
        most = self.most or 3 * size
        return min(size, most), max(0, min(3 * size, most) - size)


def wanted_options(patience: timedelta | None) -> dict[str, str]:
    """The options that each of our sessions or transactions has, as PostgreSQL shows them: times in milliseconds.

    `patience`: how long its user waits for an answer. A little before that the server stops a statement by itself: then
    it is known that it was not done, and nobody waits for a lock in whose name nobody waits any more.
    """
    # A process that stands still in the middle of a transaction must not hold its lane or job for long.
    times = {"idle_in_transaction_session_timeout": _LONGEST_PAUSE}
    if patience:
        times["statement_timeout"] = patience * _OF_PATIENCE
    return {name: str(milliseconds(time)) for name, time in times.items()} | dict.fromkeys(NOT_BY_INDEX, "off")


def milliseconds(duration: timedelta) -> int:
    """The duration in whole ones."""
    return duration // timedelta(milliseconds=1)


def begin_with(options: Mapping[str, str]) -> str:
    """A BEGIN after which the transaction has these options: one round trip."""
    return "; ".join(["BEGIN", *(f"SET LOCAL {name} = {value}" for name, value in options.items())])


def complete_sessions(engine: Engine, options: Mapping[str, str]) -> None:
    """Looks at each new session whether it has the options that it was asked for, and gives it the others.

    A pooler may take them and forget them. Raises DatabaseSessionError then.
    """

    @event.listens_for(engine, "connect")
    def complete(connection: psycopg.Connection, _record: object) -> None:
        found: dict[str, str] = dict(connection.execute(_LOOK, ([*options, "idle_session_timeout"],)).fetchall())
        lost = sorted(name for name, value in options.items() if found.get(name) != value)
        if lost:
            connection.close()
            raise DatabaseSessionError(
                f"a new session of PostgreSQL came without {', '.join(lost)}, which it was asked for"
            )
        if connection.info.server_version >= _FIRST_WITH_CLIENT_CHECKS:
            # Not among the options, for which a server on another system refuses us.
            with suppress(psycopg.Error):
                connection.execute("SET client_connection_check_interval = '1s'")


def replace_dead_connections(engine: Engine) -> None:
    """Has a connection that ended in the engine's pool replaced as it is taken from there.

    The server ended it, was restarted, or something between closed it. Nothing was asked on it, so nobody need be told.
    On one that is alive and idle nothing comes in; what does is its end. That is a look at the socket, no round trip.
    """

    @event.listens_for(engine, "checkout")
    def look(connection: psycopg.Connection, _record: object, _proxy: object) -> None:
        if connection.closed or _has_something_to_read(connection.fileno()):
            raise DisconnectionError("the connection ended while it was idle")


def _has_something_to_read(socket: int) -> bool:
    if not hasattr(select, "poll"):
        return bool(select.select([socket], [], [], 0)[0])
    look = select.poll()
    look.register(socket, select.POLLIN)
    return bool(look.poll(0))
