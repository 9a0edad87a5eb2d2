"""Validates the URL and headers of an HTTP operation. No fault repeats a value, which may be a secret."""

import re
from collections.abc import Callable

from tidegate.operations.http_url import parse_url
from tidegate.operations.url_template import UrlTemplate

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
# Headers that frame the message, belong to one connection, or are set by Tidegate itself.
_RESERVED_HEADERS = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te"),
        *("trailer", "upgrade", "expect", "content-type", "idempotency-key"),
    }
)
# Headers of a submit that are not for the downstream: the caller's secrets, and what proxies and Tidegate read.
_NOT_PASSED = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "prefer"})
_NOT_PASSED_PREFIXES = (
    "forwarded",
    "x-forwarded-",
    "tidegate-",
    "job-",
    "webhook-",
    "traceparent",
    "tracestate",
    "proxy-",
)


def url_fault(template: UrlTemplate, expand: Callable[[str], str]) -> str | None:
    """The fault of a URL, whatever the input puts into it; None: it is valid."""
    try:
        one, other = (parse_url(template.fill(_all(template, value), expand)) for value in ("a", "b"))
    except ValueError as error:
        return str(error)
    if (one.scheme, one.host, one.port) != (other.scheme, other.host, other.port):
        return "the host would come from the input"
    return None


def _all(template: UrlTemplate, value: str) -> dict[str, str]:
    return {place.name: value for place in template.places}


def header_name_fault(name: str) -> str | None:
    """The fault of a header's name; None: it is valid."""
    if not _HEADER_NAME.fullmatch(name):
        return "it can't be set here: it is no name of a header"
    if name.lower() in _RESERVED_HEADERS:
        return "it can't be set here: it frames the request, or is Tidegate's own"
    return None


def passed_header_fault(name: str) -> str | None:
    """The fault of the name of a header that is to be passed on; None: it may be."""
    if name.lower() in _NOT_PASSED or name.lower().startswith(_NOT_PASSED_PREFIXES):
        return "it can't be passed on: it is meant for Tidegate or for a proxy, or is a secret of the caller's"
    return header_name_fault(name)


def header_value_fault(value: str) -> str | None:
    """The fault of a header's value; None: it is valid."""
    if value.isascii() and value.isprintable() and value == value.strip():
        return None
    return "it must be one line of ASCII, without spaces around it"
