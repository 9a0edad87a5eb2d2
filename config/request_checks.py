"""Whether the URL and the headers of an operation can be sent. No reason repeats a value, which may be a secret."""

import re

from tidegate.operations.http_url import parse_url

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
# They frame the message or belong to one connection, or carry what Tidegate itself promises.
_RESERVED_HEADERS = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te"),
        *("trailer", "upgrade", "expect", "content-type", "idempotency-key"),
    }
)


def url_fault(url: str) -> str | None:
    """What is wrong with a URL; None: nothing."""
    try:
        parse_url(url)
    except ValueError as error:
        return str(error)
    return None


def header_name_fault(name: str) -> str | None:
    """What is wrong with a header's name; None: nothing."""
    if not _HEADER_NAME.fullmatch(name):
        return "it can't be set here: it is no name of a header"
    if name.lower() in _RESERVED_HEADERS:
        return "it can't be set here: it frames the request, or is Tidegate's own"
    return None


def header_value_fault(value: str) -> str | None:
    """What is wrong with a header's value; None: nothing."""
    if value.isascii() and value.isprintable() and value == value.strip():
        return None
    return "it must be one line of ASCII, without spaces around it"
