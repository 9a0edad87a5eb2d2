"""Keeps access tokens: in memory and, sealed, in the database for the whole cluster. One is fetched at a time."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from tidegate import clock
from tidegate.database.connection import UNREACHABLE
from tidegate.database.retrying import retry_until_answered
from tidegate.execution.token_store import KeptToken, TokenStore
from tidegate.jobs.job import Claim
from tidegate.operations.oauth import LONGEST_SECONDS, AccessToken, Fetch, NoTokenError, OAuth

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.05
# A lease that ran out while its request goes on would have a second one made.
_LEASE_MARGIN_SECONDS = 2.0
SecondsLeft = Callable[[], float]


class Sealing(Protocol):
    """Seals texts by a key that is not in the database (`tidegate.execution.sealing.Sealer`)."""

    def seal(self, text: str, name: bytes) -> bytes: ...
    def open(self, sealed: bytes, name: bytes) -> str | None: ...


class TokenKeeper:
    """Keeps the tokens of a process. With a sealer they are those of the cluster: one process fetches, all have it."""

    def __init__(self, store: TokenStore, sealer: Sealing | None = None) -> None:
        self._store = store
        self._sealer = sealer
        self._lock = threading.Lock()
        self._kept: dict[bytes, AccessToken] = {}
        self._under_way: dict[bytes, Future[AccessToken]] = {}

    def token(self, oauth: OAuth, fetch: Fetch, seconds_left: SecondsLeft) -> AccessToken:
        """A good token. Threads that meet wait for one answer, each within its own time. Raises NoTokenError."""
        name = oauth.name
        while True:
            with self._lock:
                kept = self._kept.get(name)
                if kept and kept.is_good:
                    return kept
                awaited = self._under_way.get(name)
                if awaited is None:
                    mine = self._under_way[name] = Future[AccessToken]()
            if awaited is None:
                return self._answer(mine, name, fetch, seconds_left)
            try:
                return awaited.result(timeout=max(seconds_left(), 0.0))
            except TimeoutError:
                raise _late() from None
            except NoTokenError as error:
                # The time of the one that asked was over; ours may not be.
                if not error.is_late or seconds_left() <= 0:
                    raise

    def renew(self, claim: Claim, oauth: OAuth, refused: AccessToken) -> bool:
        """Throws a token away, unless another has taken its place. False: it was fetched after such a renewal already.

        One that is older stood in the memory of a process that had not heard of it: that is nobody's attempt.
        """
        with self._lock:
            if self._kept.get(oauth.name) == refused:
                del self._kept[oauth.name]
        if refused.number is not None:
            self._store.throw_away(oauth.name, refused.number)
        renewed_ago = self._store.renewed_ago(claim)
        return renewed_ago is None or clock.monotonic() - refused.fetched > renewed_ago

    def _answer(
        self, awaited: Future[AccessToken], name: bytes, fetch: Fetch, seconds_left: SecondsLeft
    ) -> AccessToken:
        """Gets the token for all that wait for it."""
        try:
            token = self._obtain(name, fetch, seconds_left)
        except BaseException as error:
            with self._lock:
                del self._under_way[name]
            awaited.set_exception(error)
            raise
        with self._lock:
            self._kept[name] = token
            del self._under_way[name]
        awaited.set_result(token)
        return token

    def _obtain(self, name: bytes, fetch: Fetch, seconds_left: SecondsLeft) -> AccessToken:
        if self._sealer is None:
            return fetch(seconds_left())
        try:
            found = self._found_or_leased(name, self._sealer, seconds_left)
        except UNREACHABLE as error:
            log.warning("the database can't be reached, the token is not shared: %s", error)
            return fetch(seconds_left())
        if isinstance(found, AccessToken):
            return found
        return self._fetched(name, self._sealer, found, fetch, seconds_left)

    def _found_or_leased(self, name: bytes, sealer: Sealing, seconds_left: SecondsLeft) -> AccessToken | int:
        """The cluster's token or, where there is no good one, the lease to fetch the next."""
        while (left := seconds_left()) > 0:
            row = self._store.find(name)
            token = _opened(row, name, sealer) if row else None
            if token and token.is_good:
                return token
            lasts = timedelta(seconds=min(left, LONGEST_SECONDS) + _LEASE_MARGIN_SECONDS)
            lease = self._store.lease(name, after=row.number if row else None, lasts=lasts)
            if lease is not None:
                return lease
            clock.sleep(min(_LOOK_SECONDS, left))
        raise _late()

    def _fetched(
        self, name: bytes, sealer: Sealing, lease: int, fetch: Fetch, seconds_left: SecondsLeft
    ) -> AccessToken:
        """Fetches a token for the cluster. A database that is away meanwhile is not waited for."""
        try:
            token = fetch(seconds_left())
        except BaseException:
            _within_reach(lambda: self._store.give_up(name, lease))
            raise
        age, life = timedelta(seconds=clock.monotonic() - token.fetched), timedelta(seconds=token.seconds)
        sealed = sealer.seal(token.text, name)
        number = _within_reach(lambda: self._store.keep(name, sealed, age=age, life=life))
        return replace(token, number=number)


@dataclass(frozen=True)
class AttemptTokens:
    """Hands out the tokens of one attempt, within its time."""

    keeper: TokenKeeper
    claim: Claim
    seconds_left: SecondsLeft

    def token(self, oauth: OAuth, fetch: Fetch) -> AccessToken:
        """A good token. Raises NoTokenError."""
        return self.keeper.token(oauth, fetch, self.seconds_left)

    def renew(self, oauth: OAuth, refused: AccessToken) -> bool:
        """Throws a token away that the downstream refused. False: that was done for this attempt before."""
        return retry_until_answered(self.claim.job_id, lambda: self.keeper.renew(self.claim, oauth, refused))


def _opened(row: KeptToken, name: bytes, sealer: Sealing) -> AccessToken | None:
    """The token of a row; None: there is none, or its key is lost."""
    text = sealer.open(row.sealed, name) if row.sealed else None
    if text is None:
        return None
    fetched = clock.monotonic() - row.age_seconds
    return AccessToken(text=text, fetched=fetched, seconds=row.seconds, number=row.number)


def _within_reach(write: Callable[[], int | None]) -> int | None:
    try:
        return write()
    except UNREACHABLE as error:
        log.warning("the database can't be reached, the token is not shared: %s", error)
        return None


def _late() -> NoTokenError:
    return NoTokenError("the token server did not answer in time", is_late=True)
