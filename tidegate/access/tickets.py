"""Tickets: signed tokens in a URL, by which a browser's EventSource, which can't send a key, reads one job's events.

`<key id>.<good until, seconds since 1970>.<HMAC-SHA256 over key, job and until when, base64url>`. What signs is not in
the database, so that a copy of it makes no ticket. It is good until 5 minutes after the job's deadline, whoever reads
the job anew, and no longer than the API key in whose name it was made.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from tidegate import clock

AFTER_DEADLINE = timedelta(minutes=5)
_PURPOSE = "tidegate ticket 1"
_FORM = re.compile(r"([0-9a-f-]{1,40})\.(\d{1,12})\.([A-Za-z0-9_-]{43})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Signs tickets in the name of an API key.

    The first of `secrets` signs; tickets that the others signed are still accepted.
    """

    key_id: str
    secrets: Sequence[bytes] = field(repr=False)

    def ticket(self, job_id: str, deadline: datetime) -> str:
        """Signs the ticket for this job's events."""
        good_until = int((deadline + AFTER_DEADLINE).timestamp())
        return f"{self.key_id}.{good_until}.{self._signature(self.secrets[0], job_id, good_until)}"

    def knows(self, ticket: "Ticket", job_id: str) -> bool:
        """Whether the ticket's signature is ours, for this job's events, and its time is not over."""
        is_genuine = any(
            hmac.compare_digest(ticket.signature, self._signature(secret, job_id, ticket.good_until))
            for secret in self.secrets
        )
        return is_genuine and clock.now().timestamp() < ticket.good_until

    def _signature(self, secret: bytes, job_id: str, good_until: int) -> str:
        signed = f"{_PURPOSE}\0{self.key_id}\0{job_id}\0{good_until}".encode()
        return base64.urlsafe_b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode().rstrip("=")


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """A ticket as a request brought it, parsed and not yet verified."""

    key_id: str
    good_until: int
    signature: str

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Parses a ticket; None for a text that is none."""
        found = _FORM.fullmatch(text)
        return cls(key_id=found[1], good_until=int(found[2]), signature=found[3]) if found else None
