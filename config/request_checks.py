"""Validates the URL and headers of an HTTP operation. No fault repeats a value, which may be a secret."""

import re
import ssl
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from config.operations_tables import OAuthTable
from tidegate.operations.connections import parse_proxy
from tidegate.operations.http_url import parse_url
from tidegate.operations.polling import ACCEPTED, SEE_OTHER
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


def oauth_texts(table: OAuthTable) -> Iterator[tuple[str, str, Callable[[Callable[[str], str]], str | None]]]:
    """What credentials are made of: the key, its text, and what finds the fault of that with its values in it."""
    yield "token_url", table.token_url, lambda expand: _absolute_url_fault(expand(table.token_url))
    yield "client_id", table.client_id, lambda expand: _credential_fault(expand(table.client_id))
    yield "client_secret", table.client_secret, lambda expand: _credential_fault(expand(table.client_secret))


def _absolute_url_fault(url: str) -> str | None:
    try:
        parse_url(url)
    except ValueError as error:
        return str(error)
    return None


def _credential_fault(text: str) -> str | None:
    return None if text and text.isprintable() else "it must be one line, and not empty"


def header_name_fault(name: str, *, sets_token: bool = False) -> str | None:
    """The fault of a header's name; None: it is valid. `sets_token`: Authorization is set by `oauth`."""
    if sets_token and name.lower() == "authorization":
        return "oauth sets it already"
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


def header_value_fault(text: str, expand: Callable[[str], str]) -> str | None:
    """The fault of a header's value; None: it is valid."""
    value = expand(text)
    if value.isascii() and value.isprintable() and value == value.strip():
        return None
    return "it must be one line of ASCII, without spaces around it"


def poll_fault(method: str, retried: Collection[int]) -> str | None:
    """Why an operation with this method, and these statuses to try again on, can't be polled; None: it can."""
    if method == "HEAD":
        return "the answer to HEAD has no body, and so no poll would bring one of that call"
    if meant := sorted({ACCEPTED, SEE_OTHER} & {*retried}):
        return f"retry.on has {meant[0]}, which means here that the work is accepted"
    return None


def proxy_fault(proxy: str, expand: Callable[[str], str]) -> str | None:
    """The fault of a proxy's URL; None: it is valid."""
    try:
        parse_proxy(expand(proxy))
    except ValueError as error:
        return str(error)
    return None


def tls_faults(ca_file: Path | None, certificate: Path | None, key: Path | None) -> Iterator[tuple[str, str]]:
    """The faults of an operation's files for TLS, each with the name of what names the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            yield "ca_file", f"{ca_file.name}: {_reason(error, 'it has no certificate in PEM')}"
    for name, file in (("client_certificate", certificate), ("client_key", key)):
        try:
            content = file.read_text("latin-1") if file else ""
        except OSError as error:
            yield name, f"{file.name if file else ''}: it can't be read: {error.strerror}"
            return
        if "ENCRYPTED" in content:
            yield name, "its key is encrypted: nobody is there to be asked for the password"
            return
    if certificate:
        try:
            context.load_cert_chain(certificate, key)
        except OSError as error:
            yield "client_certificate", f"{certificate.name}: {_reason(error, 'no certificate and its key, in PEM')}"


def _reason(error: OSError, words: str) -> str:
    return words if isinstance(error, ssl.SSLError) else f"it can't be read: {error.strerror}"
