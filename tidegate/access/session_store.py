"""Sessions of the live page: a cookie stands for a signed-in API key, for 12 hours at the most.

The browser has 256 random bits, the database their hash: a copy of it opens no session, and a row says until when there
is one, whatever a cookie says. A session ends with its key, when its time is over, or when somebody signs out.
"""

from datetime import timedelta

from sqlalchemy import delete, insert, select

from tidegate.access.key_store import is_good
from tidegate.access.keys import Caller, Role, digest_of, random_text
from tidegate.database.connection import Database
from tidegate.database.schema import keys, sessions
from tidegate.database.time import database_now

GOOD_FOR = timedelta(hours=12)


class SessionStore:
    """Statements on sessions of the live page: begin, find, end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, key_id: str) -> str:
        """Begins a session; returns the text for the cookie. Deletes sessions that are over."""
        text = random_text()
        with self._database.transaction() as connection:
            connection.execute(delete(sessions).where(sessions.c.ends_at <= database_now()))
            connection.execute(
                insert(sessions).values(
                    hash=digest_of(text), key_id=key_id, began_at=database_now(), ends_at=database_now(GOOD_FOR)
                )
            )
        return text

    def find(self, digest: bytes) -> Caller | None:
        """The caller whose session has this hash; None unless it goes on and its key is good."""
        row = self._database.fetch_one(
            select(keys.c.id, keys.c.client_id, keys.c.role)
            .join(sessions, sessions.c.key_id == keys.c.id)
            .where(sessions.c.hash == digest, sessions.c.ends_at > database_now(), is_good())
        )
        return Caller(client_id=row.client_id, role=Role(row.role), key_id=row.id) if row else None

    def end(self, digest: bytes) -> None:
        """Ends the session of this hash, if there is one."""
        self._database.execute(delete(sessions).where(sessions.c.hash == digest))
