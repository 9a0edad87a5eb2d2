"""Checks a webhook's URL: the strict grammar of `http_url`, no dangerous ports, no address that is not public."""

import ipaddress

from tidegate.operations.http_url import HttpUrl, parse_url
from tidegate.webhooks.egress import Egress

LONGEST = 2000
_LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
_LOWEST_FREE_PORT = 1024
# Higher ports that the Fetch standard blocks: they speak other protocols.
_PORTS_OF_OTHERS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080}
)


def parse(text: str) -> HttpUrl:
    """Parses the URL; raises ValueError that says what is wrong with it."""
    if len(text) > LONGEST:
        raise ValueError(f"at most {LONGEST} characters")
    url = parse_url(text)
    if url.host.endswith("."):
        raise ValueError("the host is no name: leave out the dot at its end")
    if url.port not in {80, 443} and (url.port < _LOWEST_FREE_PORT or url.port in _PORTS_OF_OTHERS):
        raise ValueError(f"port {url.port} belongs to another protocol")
    return url


def check(url: HttpUrl, egress: Egress) -> None:
    """Raises ValueError when it is known already that this can't be connected to.

    Names are not looked up: what they stand for is seen, and checked, at each connection.
    """
    is_local = url.host == "localhost" or url.host.endswith(".localhost")
    address = _LOOPBACK if is_local else url.address
    if address is not None and not egress.allows(address):
        raise ValueError(f"{url.host} is no public address, and TIDEGATE_WEBHOOK_NETWORKS does not open it")
