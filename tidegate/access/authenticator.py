"""Authenticates callers by API key, ticket or session, with a cache of two seconds before the database."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from tidegate import clock
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Caller, Role, digest_of
from tidegate.access.session_store import SessionStore
from tidegate.access.tickets import Signer, Ticket

FRESH_SECONDS = 2.0
_MOST_REMEMBERED = 10_000


class Authenticator:
    """The authenticator: reads a key from the database at most every 2 s. Remembers hashes, never secrets."""

    def __init__(self, keys: KeyStore, sessions: SessionStore, signing_keys: Sequence[bytes]) -> None:
        self._keys = keys
        self._sessions = sessions
        self._signing_keys = signing_keys
        self._known: dict[tuple[str, bytes | str], tuple[float, Caller | None]] = {}
        self._lock = threading.Lock()

    def caller(self, secret: str) -> Caller | None:
        """The caller who has this API key; None for one that is unknown, expired or revoked."""
        digest = digest_of(secret)
        return self._remembered(("key", digest), lambda: self._keys.caller(digest))

    def holder(self, text: str, job_id: str) -> Caller | None:
        """The caller in whose name this ticket for the job was made; None unless it and its key are good."""
        ticket = Ticket.read(text)
        known = self._of_id(ticket.key_id) if ticket else None
        return known if ticket and known and known.signer and known.signer.knows(ticket, job_id) else None

    def visitor(self, session: str) -> Caller | None:
        """The caller whose session of the live page this is; None unless it and its key are good."""
        digest = digest_of(session)
        return self._remembered(("session", digest), lambda: self._sessions.find(digest)) if session else None

    def begin_session(self, key: str) -> str | None:
        """Begins a session of the live page with this key; None: the key is not good for one."""
        known = self.caller(key)
        may_look = known is not None and known.role is not Role.METRICS
        return self._sessions.begin(known.key_id) if known and known.key_id and may_look else None

    def end_session(self, session: str) -> None:
        """Ends a session: here at once, in other processes within 2 s."""
        digest = digest_of(session)
        self._sessions.end(digest)
        with self._lock:
            self._known.pop(("session", digest), None)

    def still_knows(self, caller: Caller) -> bool:
        """Whether the caller's key is still good; to be asked before a long answer goes on."""
        return caller.key_id is None or self._of_id(caller.key_id) is not None

    def _of_id(self, key_id: str) -> Caller | None:
        return self._remembered(("id", key_id), lambda: self._keys.holder(key_id))

    def _remembered(self, name: tuple[str, bytes | str], find: Callable[[], Caller | None]) -> Caller | None:
        with self._lock:
            at, caller = self._known.get(name, (float("-inf"), None))
        if clock.monotonic() - at <= FRESH_SECONDS:
            return caller
        caller = find()
        if caller and caller.key_id:
            caller = replace(caller, signer=Signer(key_id=caller.key_id, secrets=self._signing_keys))
        with self._lock:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[name] = clock.monotonic(), caller
        return caller
