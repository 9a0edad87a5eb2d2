"""Tickets: what a browser, which can't send a key, shows in its place. Good for one thing and for a time: for a job's
events 5 minutes, for a session of the live page 12 hours.

`<key id>.<good until, seconds since 1970>.<HMAC-SHA256 over what it is for and until when, base64url>`. It is signed
with the hash of the key in whose name it was made: there is no further secret to share among processes, and with the
key its tickets are revoked.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self

from tidegate import clock

GOOD_FOR = timedelta(minutes=5)
SESSION_GOOD_FOR = timedelta(hours=12)
_SESSION = "a session of the page"
_FORM = re.compile(r"([0-9a-f-]{1,40})\.(\d{1,12})\.([A-Za-z0-9_-]{43})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Signer:
    """An API key, as far as tickets need it."""

    key_id: str
    secret: bytes = field(repr=False)

    def ticket(self, job_id: str) -> str:
        """A ticket for this job's events, good from now on."""
        return self._signed(_events_of(job_id), GOOD_FOR)

    def session(self) -> str:
        """A ticket for the live page, good from now on."""
        return self._signed(_SESSION, SESSION_GOOD_FOR)

    def signature(self, subject: str, good_until: int) -> str:
        """What proves that the ticket is ours."""
        digest = hmac.digest(self.secret, f"{subject} until {good_until}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _signed(self, subject: str, good_for: timedelta) -> str:
        good_until = int((clock.now() + good_for).timestamp())
        return f"{self.key_id}.{good_until}.{self.signature(subject, good_until)}"


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """A ticket as it was shown; nothing is proved yet."""

    key_id: str
    good_until: int
    signature: str

    @classmethod
    def read(cls, text: str) -> Self | None:
        """None for what is no ticket at all."""
        found = _FORM.fullmatch(text)
        return cls(key_id=found[1], good_until=int(found[2]), signature=found[3]) if found else None

    def is_good(self, signer: Signer, job_id: str) -> bool:
        """Whether it was made by this key for this job's events, less than 5 minutes ago."""
        return self._is_for(_events_of(job_id), signer)

    def is_session(self, signer: Signer) -> bool:
        """Whether it was made by this key for the live page, less than 12 hours ago."""
        return self._is_for(_SESSION, signer)

    def _is_for(self, subject: str, signer: Signer) -> bool:
        genuine = hmac.compare_digest(self.signature, signer.signature(subject, self.good_until))
        return genuine and clock.now().timestamp() < self.good_until


def _events_of(job_id: str) -> str:
    return f"events of {job_id}"
