"""Tickets: what a browser's EventSource, which can't send a key, shows in its place. Good for one job and 5 minutes.

`<key id>.<good until, seconds since 1970>.<HMAC-SHA256 over both and the job's id, base64url>`. It is signed with the
hash of the key in whose name it was made: there is no further secret to share among processes, and with the key its
tickets are revoked.
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
_FORM = re.compile(r"([0-9a-f-]{1,40})\.(\d{1,12})\.([A-Za-z0-9_-]{43})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Signer:
    """An API key, as far as tickets need it."""

    key_id: str
    secret: bytes = field(repr=False)

    def ticket(self, job_id: str) -> str:
        """A ticket for this job, good from now on."""
        good_until = int((clock.now() + GOOD_FOR).timestamp())
        return f"{self.key_id}.{good_until}.{self.signature(job_id, good_until)}"

    def signature(self, job_id: str, good_until: int) -> str:
        """What proves that the ticket is ours."""
        message = f"events of {job_id} until {good_until}".encode()
        digest = hmac.digest(self.secret, message, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


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
        """Whether it was made by this key for this job, less than 5 minutes ago."""
        genuine = hmac.compare_digest(self.signature, signer.signature(job_id, self.good_until))
        return genuine and clock.now().timestamp() < self.good_until
