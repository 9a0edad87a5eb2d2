"""Trusts the X-Forwarded headers of the proxies that the settings name, and of no others."""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

from config.setting_types import IPNetwork

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class TrustedProxies:
    """WSGI middleware: X-Forwarded-For, -Proto, -Host and -Prefix count when the peer is a trusted proxy."""

    def __init__(self, app: "WSGIApplication", networks: Sequence[IPNetwork]) -> None:
        self._app = app
        self._networks = networks
        self._fixed = ProxyFix(app, x_for=1, x_proto=1, x_host=1, x_prefix=1)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Applies the headers if the peer's address is a trusted proxy's."""
        app = self._fixed if self._is_trusted(environ.get("REMOTE_ADDR", "")) else self._app
        return app(environ, start_response)

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._networks)
