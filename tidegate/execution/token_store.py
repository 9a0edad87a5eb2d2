"""Statements on the access tokens of the whole cluster: who fetches one, keeps it sealed, throws it away."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, and_, delete, or_, select, type_coerce, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate.clock import from_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, oauth_tokens
from tidegate.database.time import database_now
from tidegate.jobs.job import Claim
from tidegate.jobs.transitions import NOW
from tidegate.operations.token_request import RENEWED

_FORGET_AFTER = timedelta(days=1)
_COUNTED = ("error", "timed out")
_fetched_at, _expires_at, _lease_until = (
    type_coerce(column, BigInteger)
    for column in (oauth_tokens.c.fetched_at, oauth_tokens.c.expires_at, oauth_tokens.c.lease_until)
)
_IS_FREE = or_(oauth_tokens.c.lease_until.is_(None), oauth_tokens.c.lease_until <= database_now())


@dataclass(frozen=True, kw_only=True)
class KeptToken:
    """A token's row. `sealed` None: there is none now. `number`: of it, or of the last one; None: there was none."""

    sealed: bytes | None
    number: int | None
    age_seconds: float
    seconds: float


class TokenStore:
    """Statements on the tokens of the cluster; a name is a hash of the credentials."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, name: bytes) -> KeptToken | None:
        """The row of this name; None: there is none yet."""
        row = self._database.fetch_one(
            select(
                oauth_tokens.c.token,
                _fetched_at.label("number"),
                (NOW - _fetched_at).label("age"),
                (_expires_at - _fetched_at).label("life"),
            ).where(oauth_tokens.c.name == name)
        )
        if row is None:
            return None
        return KeptToken(
            sealed=row.token, number=row.number, age_seconds=(row.age or 0) / 1e6, seconds=(row.life or 0) / 1e6
        )

    def lease(self, name: bytes, *, after: int | None, lasts: timedelta) -> int | None:
        """Leases the right to fetch what comes after the token of this number. None: another process has it, or did.

        Returns the lease's end, by which it is given up.
        """
        insert: Any = sqlite_insert if self._database.is_sqlite else postgresql_insert
        mine = {"lease_until": database_now(lasts)}
        statement = (
            insert(oauth_tokens)
            .values(name=name, **mine)
            .on_conflict_do_update(
                index_elements=[oauth_tokens.c.name],
                set_=mine,
                where=and_(_fetched_at.is_not_distinct_from(after), _IS_FREE),
            )
            .returning(_lease_until.label("lease"))
        )
        row = self._database.fetch_one(statement)
        return None if row is None else int(row.lease)

    def give_up(self, name: bytes, lease: int) -> None:
        """Ends a lease without a token: the next process may try at once."""
        mine = and_(oauth_tokens.c.name == name, _lease_until == lease)
        self._database.execute(update(oauth_tokens).where(mine).values(lease_until=None))

    def keep(self, name: bytes, sealed: bytes, *, age: timedelta, life: timedelta) -> int | None:
        """Keeps a token that was asked for `age` ago, and ends the lease; its number. Deletes what is long over.

        None: its row was deleted meanwhile, for the lease had run out.
        """
        over = and_(oauth_tokens.c.expires_at < database_now(-_FORGET_AFTER), _IS_FREE)
        kept = {"token": sealed, "fetched_at": database_now(-age), "expires_at": database_now(life - age)}
        with self._database.transaction() as connection:
            connection.execute(delete(oauth_tokens).where(over, oauth_tokens.c.name != name))
            number: int | None = connection.execute(
                update(oauth_tokens)
                .where(oauth_tokens.c.name == name)
                .values(**kept, lease_until=None)
                .returning(_fetched_at)
            ).scalar_one_or_none()
        return number

    def throw_away(self, name: bytes, number: int) -> None:
        """Throws a token away, unless another one has taken its place."""
        this = and_(oauth_tokens.c.name == name, oauth_tokens.c.fetched_at == from_microseconds(number))
        self._database.execute(update(oauth_tokens).where(this).values(token=None))

    def renewed_ago(self, claim: Claim) -> float | None:
        """How many seconds ago a token was renewed for this attempt of a job: since the last one that was counted.

        None: none was.
        """
        ago = (NOW - type_coerce(attempts.c.ended_at, BigInteger)).label("ago")
        rows = self._database.fetch_all(
            select(attempts.c.outcome, ago)
            .where(attempts.c.job_id == claim.job_id, attempts.c.fence < claim.fence)
            .order_by(attempts.c.fence.desc())
        )
        for row in rows:
            if row.outcome == RENEWED:
                return float(row.ago) / 1e6
            if row.outcome in _COUNTED:
                return None
        return None
