"""Sockets that obey one total deadline: a downstream that sends a byte at a time can't hold a call for ever.

An HTTP client's timeouts start anew at every read. Here each operation on the network gets only what is left
until the instant that `ends_at` set, in this thread.
"""

import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore2

from tidegate import clock

_ends: ContextVar[float] = ContextVar("ends")
# getaddrinfo knows no deadline; everything after it obeys ours.
_Options = Iterable[Any] | None


@contextmanager
def ends_at(monotonic: float) -> Iterator[None]:
    """Sets the deadline of every socket operation of this thread within it, on the monotonic clock."""
    token = _ends.set(monotonic)
    try:
        yield
    finally:
        _ends.reset(token)


def _left(error: type[Exception]) -> float:
    left = _ends.get() - clock.monotonic()
    if left <= 0:
        raise error("the time for this call is over")
    return left


class DeadlineBackend(httpcore2.NetworkBackend):
    """httpcore's network backend with a deadline: connects to the first address of a host that answers."""

    def __init__(self) -> None:
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
        local_address: str | None = None,
        socket_options: _Options = None,
    ) -> httpcore2.NetworkStream:
        """Connects as httpcore's own backend does; raises ConnectTimeout and ConnectError."""
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in self.addresses_of(host, port):
            try:
                stream = self._inner.connect_tcp(
                    address, port, _left(httpcore2.ConnectTimeout), local_address, socket_options
                )
            except httpcore2.ConnectError as error:
                failure = error
            else:
                return _DeadlineStream(stream)
        raise failure

    def addresses_of(self, host: str, port: int) -> list[str]:
        """The addresses of a host, to be tried in this order; raises ConnectError."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} has no address: {error}") from error
        return list(dict.fromkeys(str(info[4][0]) for info in found))

    @staticmethod
    def seconds_left() -> float:
        """Seconds until this thread's deadline; raises ConnectTimeout when it is over."""
        return _left(httpcore2.ConnectTimeout)


class _DeadlineStream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline rules
        return self._inner.read(max_bytes, _left(httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the deadline rules
        sock: socket.socket = self._inner.get_extra_info("socket")
        unsent = memoryview(buffer)
        while unsent:
            try:
                sock.settimeout(_left(httpcore2.WriteTimeout))
                unsent = unsent[sock.send(unsent) :]
            except TimeoutError as error:
                raise httpcore2.WriteTimeout(str(error)) from error
            except OSError as error:
                raise httpcore2.WriteError(str(error)) from error

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
    ) -> httpcore2.NetworkStream:
        return _DeadlineStream(self._inner.start_tls(ssl_context, server_hostname, _left(httpcore2.ConnectTimeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
