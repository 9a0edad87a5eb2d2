"""A strict parser of absolute http:// and https:// URLs, so that what was checked is what is connected to.

Programs differ in how they read unusual URLs, and an attacker lives in the difference. Here a URL is what RFC 3986
calls one and nothing that browsers mend: what is not plainly well-formed is refused with the reason. No reason repeats
what stands there, for there may be a secret in it.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[^\[\]/?#@\s]*\]|[^\[\]:/?#@\\]*)(?::(?P<port>[^/?#]*))?(?P<target>[/?].*)?",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
# A last label like this makes systems read the whole name as an IPv4 address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST_NAME = 253
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class HttpUrl:
    """A parsed URL, in the parts that a request is made of. `host` is lower case, without brackets."""

    text: str
    scheme: Literal["http", "https"]
    host: str
    port: int
    target: str

    @property
    def address(self) -> IPAddress | None:
        """The IP address, where the host is one and not a name; else None."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def host_field(self) -> str:
        """The value of the Host header: an IPv6 address in brackets, and the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(text: str) -> HttpUrl:
    """Parses the URL; raises ValueError that says what is wrong with it."""
    _check_characters(text)
    found = _URL.fullmatch(text)
    if found is None:
        raise ValueError("write an absolute http:// or https:// URL")
    scheme: Literal["http", "https"] = "https" if found["scheme"].lower() == "https" else "http"
    return HttpUrl(
        text=text,
        scheme=scheme,
        host=_host(found["host"].lower()),
        port=_port(found["port"], scheme),
        target=_target(found["target"] or "/"),
    )


def _check_characters(text: str) -> None:
    authority = re.split(r"[/?#]", text.partition("://")[2], maxsplit=1)[0]
    if not authority.isascii():
        raise ValueError("only visible ASCII characters; write a name as it stands in the DNS (xn--…)")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("only visible ASCII characters; write others percent-encoded (%C3%9F for ß, %20 for a blank)")
    if "#" in text:
        raise ValueError("no fragment: what stands behind # is never sent; write %23 for the character")
    if any(character in text for character in '\\"<>^`{|}'):
        raise ValueError('a character that no URL has here: one of \\ " < > ^ ` { | }; write it percent-encoded')
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ValueError("a % without two hexadecimal digits behind it; write %25 for the character")
    if "@" in authority:
        raise ValueError("no user or password before the host: a secret goes into a header, the path or the query")


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            address = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            raise ValueError("what stands in the brackets is no IPv6 address") from None
        if address.scope_id is not None:
            raise ValueError("an address with a zone is one of a single machine")
        return address.compressed
    if not text:
        raise ValueError("there is no host")
    if _NUMBER.fullmatch(text.removesuffix(".").rpartition(".")[2]):
        try:
            # Refuses short, octal and hexadecimal forms, which the system would read as some other address.
            return ipaddress.IPv4Address(text).compressed
        except ValueError:
            raise ValueError("write an IPv4 address as four decimal numbers") from None
    # A dot at the end spares a resolver its search list.
    if len(text) > _LONGEST_NAME or not _NAME.fullmatch(text.removesuffix(".")):
        raise ValueError("the host is no name")
    return text


def _port(text: str | None, scheme: Literal["http", "https"]) -> int:
    if text is None:
        return _PORTS[scheme]
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65535:
        raise ValueError("the port is no number from 1 to 65535")
    return int(text)


def _target(text: str) -> str:
    return text if text.startswith("/") else "/" + text
