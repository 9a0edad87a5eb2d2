"""Protection from other web sites while authentication is off: DNS rebinding and cross-site requests (CSRF).

With authentication off whoever reaches the port is the operator, and a browser on this machine reaches it for any page
that it shows. Two ways lead here, and both are closed before any route: a name that somebody makes point at this
machine (DNS rebinding), and a form or script that sends something from another site.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import AnyUrl

from config.settings import Settings
from tidegate.errors import Forbidden, UnknownHost
from tidegate.metrics.counters import Counts
from webapp.serving.wsgi_answers import refuse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# Sec-Fetch-Site of a request that our own page, or the browser's user, made.
_OWN_SITE = frozenset({"same-origin", "none"})
_NAMES = "without keys it answers to localhost, to loopback addresses and to the host of TIDEGATE_PUBLIC_URL"
_SENDERS = "without keys only its own pages, programs, and pages of TIDEGATE_CORS_ORIGINS may change anything here"


class CrossSiteGuard:
    """WSGI middleware that refuses other sites' requests. One without a Host passes: browsers always send it."""

    def __init__(self, app: "WSGIApplication", settings: Settings, counts: Counts) -> None:
        self._app = app
        self._counts = counts
        self._public_host = _public_host(settings.public_url)
        self._public_origin = urlsplit(settings.public_url).netloc.lower()
        self._allowed = frozenset(settings.cors_origins)
        self._is_ours = lru_cache(1024)(self._names_us)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Passes the request to the application, or refuses it."""
        host = environ.get("HTTP_HOST", "")
        if host and not self._is_ours(host):
            return refuse(UnknownHost(_NAMES), environ, start_response, self._counts)
        if environ["REQUEST_METHOD"] not in _SAFE and self._is_foreign(environ, host):
            return refuse(Forbidden(_SENDERS), environ, start_response, self._counts)
        return self._app(environ, start_response)

    def _names_us(self, host: str) -> bool:
        name = _host_name(host)
        return bool(name) and (name == self._public_host or is_loopback(name))

    def _is_foreign(self, environ: "WSGIEnvironment", host: str) -> bool:
        origin = environ.get("HTTP_ORIGIN", "").lower()
        if origin in self._allowed:
            return False
        if environ.get("HTTP_SEC_FETCH_SITE", "none") not in _OWN_SITE:
            return True
        sender = origin.partition("://")[2]
        return bool(origin) and (not sender or sender not in {host.lower(), self._public_origin})


def is_loopback(name: str) -> bool:
    """Whether a host's name or address means this machine and can mean no other (RFC 6761, 6.3)."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _host_name(host: str) -> str:
    """The name in a Host header, without port, brackets and a dot at the end; empty if the header is malformed."""
    try:
        split = urlsplit(f"//{host}")
        _ = split.port  # raises ValueError for one that is no number
    except ValueError:
        return ""
    is_one = split.netloc == host and not split.username and "@" not in host and "," not in host
    return (split.hostname or "").removesuffix(".") if is_one else ""


def _public_host(public_url: str) -> str:
    """The public URL's host as browsers send it: names in other scripts in ASCII (IDNA)."""
    return (AnyUrl(public_url).host or "").strip("[]").removesuffix(".") if public_url else ""
