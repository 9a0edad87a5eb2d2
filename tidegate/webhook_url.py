"""Reads where a webhook goes: one strict grammar, read once, so that what was checked is what is connected to.

Programs differ in how they read unusual URLs, and an attacker lives in the difference. Here a URL is what RFC 3986
calls one and nothing that browsers mend: what is not plainly well-formed is refused with the reason.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from tidegate.egress import Egress, IPAddress

LONGEST = 2000
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[^\[\]/?#@\s]*\]|[^\[\]:/?#@\\]*)(?::(?P<port>[^/?#]*))?(?P<target>[/?].*)?",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
# What systems take for a number as the last label, whose whole name they then read as an IPv4 address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST_NAME = 253
_LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
_LOWEST_FREE_PORT = 1024
# Ports from there on that the Fetch standard has browsers refuse too: they speak other protocols.
_PORTS_OF_OTHERS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080}
)


@dataclass(frozen=True, kw_only=True)
class WebhookUrl:
    """Where a webhook goes, in the parts that a request is made of. `host` is lower case, without brackets."""

    text: str
    scheme: Literal["http", "https"]
    host: str
    port: int
    target: str

    @property
    def address(self) -> IPAddress | None:
        """The address, where the host is one and no name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


def parse(text: str) -> WebhookUrl:
    """Reads the URL; raises ValueError that says what is wrong with it."""
    if len(text) > LONGEST:
        raise ValueError(f"at most {LONGEST} characters")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("only visible ASCII characters; write a name as it stands in the DNS (xn--…)")
    if any(character in text for character in '\\"<>^`{|}#'):
        raise ValueError('a character that no URL has here: one of \\ " < > ^ ` { | } #')
    if "@" in re.split(r"[/?]", text.partition("://")[2], maxsplit=1)[0]:
        raise ValueError("no user or password: what is to be kept secret goes into the path or query")
    found = _URL.fullmatch(text)
    if found is None:
        raise ValueError("write an absolute http:// or https:// URL")
    scheme: Literal["http", "https"] = "https" if found["scheme"].lower() == "https" else "http"
    return WebhookUrl(
        text=text,
        scheme=scheme,
        host=_host(found["host"].lower()),
        port=_port(found["port"], scheme),
        target=_target(found["target"] or "/"),
    )


def check(url: WebhookUrl, egress: Egress) -> None:
    """Raises ValueError when it is known already that this can't be connected to. Names are not looked up: what they
    stand for is seen, and checked, at each connection."""
    is_local = url.host == "localhost" or url.host.endswith(".localhost")
    address = _LOOPBACK if is_local else url.address
    if address is not None and not egress.allows(address):
        raise ValueError(f"{url.host} is no public address, and TIDEGATE_WEBHOOK_NETWORKS does not open it")


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            address = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            raise ValueError(f"{text} is no IPv6 address") from None
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
            raise ValueError(f"{text[:80]}: write an IPv4 address as four decimal numbers") from None
    if len(text) > _LONGEST_NAME or not _NAME.fullmatch(text):
        raise ValueError(f"{text[:80]} is no host name")
    return text


def _port(text: str | None, scheme: str) -> int:
    if text is None:
        return 443 if scheme == "https" else 80
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65535:
        raise ValueError(f"{text[:10]!r} is no port")
    port = int(text)
    if port not in {80, 443} and (port < _LOWEST_FREE_PORT or port in _PORTS_OF_OTHERS):
        raise ValueError(f"port {port} belongs to another protocol")
    return port


def _target(text: str) -> str:
    return text if text.startswith("/") else "/" + text
