"""429 for a client that submits or polls too fast, and the RateLimit fields that tell it beforehand.

Fields as in draft-ietf-httpapi-ratelimit-headers. The limit is each web process's own.
"""

import math
from datetime import timedelta

from flask import Response, g, request

from tidegate.client_limits import ClientLimit, Verdict
from tidegate.errors import TooFast
from webapp.auth import caller

COUNTED = "tidegate.counted"
"""In the WSGI environment: the verdict on a request that was counted on its way here."""


def count(limit: ClientLimit | None, name: str) -> None:
    """Counts this request against its client's limit; raises TooFast beyond it."""
    if limit is None:
        return
    verdict = request.environ.pop(COUNTED, None) or limit.ask(caller().client_id)
    g.rate_limit = name, verdict
    if not verdict.allowed:
        raise TooFast(
            f"at most {verdict.rate.calls} {name} in {verdict.rate.period / 1e6:g} s",
            timedelta(seconds=verdict.more_in_seconds),
        )


def tell(response: Response) -> Response:
    """Puts the fields on the answer of a request that was counted."""
    if "rate_limit" in g:
        name, verdict = g.rate_limit
        for field, value in fields(name, verdict).items():
            response.headers[field] = value
    return response


def fields(name: str, verdict: Verdict) -> dict[str, str]:
    """The RateLimit fields that tell a verdict; `name`: of the limit."""
    period = math.ceil(verdict.rate.period / 1e6)
    more_in = math.ceil(verdict.more_in_seconds)
    return {
        "RateLimit-Policy": f'"{name}";q={verdict.rate.calls};w={period}',
        "RateLimit": f'"{name}";r={verdict.remaining};t={more_in}',
    }
