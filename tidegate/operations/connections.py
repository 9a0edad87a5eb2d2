"""Pools of open connections to downstreams: one in a process for each way to get there."""

import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpcore2

from tidegate.operations.deadline_network import DeadlineBackend
from tidegate.operations.tls import tls_context

_KEPT_SECONDS = 15


@dataclass(frozen=True, kw_only=True)
class Way:
    """How connections are made: whom they trust, who they say they are, and through which proxy they go.

    `proxy`: http://host:port, with name and password where it asks for them.
    """

    ca_files: tuple[Path, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    proxy: str | None = None


def connections_by(way: Way) -> httpcore2.ConnectionPool:
    """The connection pool of this process; its size is bounded by the worker's threads."""
    with _lock:
        if way not in _pools:
            _pools[way] = httpcore2.ConnectionPool(
                ssl_context=tls_context(*way.ca_files, certificate=way.certificate, key=way.key),
                proxy=parse_proxy(way.proxy) if way.proxy else None,
                max_connections=None,
                max_keepalive_connections=100,
                keepalive_expiry=_KEPT_SECONDS,
                retries=0,
                network_backend=DeadlineBackend(),
            )
        return _pools[way]


def has_open(connections: httpcore2.ConnectionPool, url: httpcore2.URL) -> bool:
    """Whether a call can go out on a connection that is open: else one is opened before the call's slot."""
    return any(
        each.can_handle_request(url.origin) and each.is_idle() and not each.has_expired()
        for each in connections.connections
    )


def parse_proxy(url: str) -> httpcore2.Proxy:
    """Parses the URL of a proxy; raises ValueError, which repeats nothing of it: there may be a password in it."""
    how = "write http://host:port, or http://name:password@host:port with both percent-encoded"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(how) from None
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme != "http" or not host or not is_plain or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(how)
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    where = httpcore2.URL(scheme="http", host=host, port=port or 80, target="/")
    return httpcore2.Proxy(where, auth=auth)


_lock = threading.Lock()
_pools: dict[Way, httpcore2.ConnectionPool] = {}
