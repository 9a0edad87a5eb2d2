"""Rate limits of clients over HTTP: 429 for submits or polls that come too fast, and the RateLimit fields.

Fields as in draft-ietf-httpapi-ratelimit-headers. The limit is each web process's own.
"""

import math
from dataclasses import dataclass
from datetime import timedelta

from flask import Response, g

from tidegate.access.client_limits import ClientLimit, Verdict
from tidegate.errors import TooFast
from webapp.http.auth import caller


@dataclass(frozen=True)
class Counted:
    """The rate limiter's verdict on this request. `name`: of the limit."""

    name: str
    verdict: Verdict

    def check(self) -> None:
        """Raises TooFast if the request is beyond the limit."""
        if not self.verdict.allowed:
            rate = self.verdict.rate
            raise TooFast(
                f"at most {rate.calls} {self.name} in {rate.period / 1e6:g} s",
                timedelta(seconds=self.verdict.more_in_seconds),
            )

    def fields(self) -> dict[str, str]:
        """The RateLimit fields of the answer."""
        period = math.ceil(self.verdict.rate.period / 1e6)
        more_in = math.ceil(self.verdict.more_in_seconds)
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.verdict.rate.calls};w={period}',
            "RateLimit": f'"{self.name}";r={self.verdict.remaining};t={more_in}',
        }


def count(limit: ClientLimit | None, name: str) -> None:
    """Counts this request of Flask's against its client's limit; raises TooFast beyond it."""
    if limit is None:
        return
    g.counted = Counted(name, limit.ask(caller().client_id))
    g.counted.check()


def add_headers(response: Response) -> Response:
    """Adds the RateLimit fields to Flask's answer of a request that `count` counted."""
    counted: Counted | None = g.get("counted")
    if counted:
        for field, value in counted.fields().items():
            response.headers[field] = value
    return response
