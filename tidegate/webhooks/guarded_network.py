"""Sockets that connect only to addresses that a webhook may be sent to (protection from SSRF and DNS rebinding).

The name is looked up once, and that answer is both checked and connected to: a name that stands for another address a
moment later gains nothing.
"""

import ipaddress
import logging
import threading

import httpcore2

from tidegate.operations.deadline_network import DeadlineBackend
from tidegate.webhooks.egress import Egress

log = logging.getLogger(__name__)


class NotPublicError(httpcore2.ConnectError):
    """One of the host's addresses may not be connected to.

    Says not which: what internal names stand for is nobody's business.
    """


class GuardedBackend(DeadlineBackend):
    """Connects within the deadline, DNS included, and only if `egress` allows every address of the host.

    Every one, not just the one that is taken: an answer that mixes public and private addresses is a trick.
    """

    def __init__(self, egress: Egress) -> None:
        super().__init__()
        self._egress = egress

    def addresses_of(self, host: str, port: int) -> list[str]:
        """The host's addresses, all of them allowed; raises NotPublicError."""
        try:
            found = [str(ipaddress.ip_address(host))]
        except ValueError:
            found = self._looked_up(host, port)
        for address in found:
            if not self._egress.allows(ipaddress.ip_address(address)):
                raise NotPublicError("it leads to an address that is not public")
        return found

    def _looked_up(self, host: str, port: int) -> list[str]:
        """Looks the name up in a thread of its own: getaddrinfo has no deadline.

        Whoever owns the name may own its name server, and let it answer slowly.
        """
        found: list[str] = []
        failures: list[Exception] = []

        def look_up() -> None:
            try:
                found.extend(super(GuardedBackend, self).addresses_of(host, port))
            except (httpcore2.ConnectError, UnicodeError) as error:
                log.info("%s", error)
                failures.append(error)

        thread = threading.Thread(target=look_up, name="look-up", daemon=True)
        thread.start()
        thread.join(self.seconds_left())
        if not found and not failures and thread.is_alive():
            raise httpcore2.ConnectTimeout("its name was not found in time")
        if not found:
            raise httpcore2.ConnectError("its name has no address") from next(iter(failures), None)
        return found
