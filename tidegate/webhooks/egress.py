"""The filter of addresses that a webhook may be sent to (against SSRF): public ones, and networks opened by a setting.

Someone who may name a URL must not reach through us what only we can reach (server-side request forgery).
"""

import ipaddress
from collections.abc import Iterable, Sequence

from tidegate.operations.http_url import IPAddress

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# IANA's special-purpose registries. Written out: what Python's `is_global` says differs between its patch releases.
_CLOSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' NAT; metadata of one cloud at 100.100.100.200
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local; metadata of most clouds at 169.254.169.254
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; metadata of one cloud at 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "168.63.129.16/32",  # public by its number, and in one cloud the host's own agent
        "2001::/23",  # protocol assignments, Teredo (which carries an IPv4 address) among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4 carries an IPv4 address
        "3fff::/20",  # documentation
    )
)
# Closed even if a setting opens them: they are no single host, or the machine itself.
_NEVER = tuple(
    ipaddress.ip_network(network) for network in ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8")
)
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Egress:
    """The address filter. `networks`: what is open beside the public addresses."""

    def __init__(self, networks: Iterable[IPNetwork] = ()) -> None:
        self._open: Sequence[IPNetwork] = tuple(networks)

    def allows(self, address: IPAddress) -> bool:
        """Whether a connection to this address is allowed. IPv4 inside IPv6 is judged as the IPv4 it is."""
        address = _unwrapped(address)
        if _is_in(address, _NEVER):
            return False
        if _is_in(address, self._open):
            return True
        if isinstance(address, ipaddress.IPv6Address) and address not in _PUBLIC_IPV6:
            return False
        return not _is_in(address, _CLOSED)


def _unwrapped(address: IPAddress) -> IPAddress:
    """The IPv4 address that is really connected to: mapped (::ffff:0:0/96), or translated by NAT64; else itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_in(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address in network for network in networks)
