"""Validates the URL and headers of an HTTP operation. No fault repeats a value, which may be a secret."""

import re

from tidegate.operations.http_url import parse_url

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
# Headers that frame the message, belong to one connection, or are set by Tidegate itself.
_RESERVED_HEADERS = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te"),
        *("trailer", "upgrade", "expect", "content-type", "idempotency-key"),
    }
)


def url_fault(url: str) -> str | None:
    """The fault of a URL; None: it is valid."""
    try:
        parse_url(url)
    except ValueError as error:
        return str(error)
    return None


def header_name_fault(name: str) -> str | None:
    """The fault of a header's name; None: it is valid."""
    if not _HEADER_NAME.fullmatch(name):
        return "it can't be set here: it is no name of a header"
    if name.lower() in _RESERVED_HEADERS:
        return "it can't be set here: it frames the request, or is Tidegate's own"
    return None


def header_value_fault(value: str) -> str | None:
    """The fault of a header's value; None: it is valid."""
    if value.isascii() and value.isprintable() and value == value.strip():
        return None
    return "it must be one line of ASCII, without spaces around it"
