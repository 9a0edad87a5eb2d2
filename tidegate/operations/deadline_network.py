"""Sockets that obey one total deadline: a downstream that sends a byte at a time can't hold a call for ever.

An HTTP client's timeouts start anew at every read. Here each operation on the network gets only what is left
until the instant that `ends_at` set, in this thread.
"""

import select
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import httpcore2

from tidegate import clock
from tidegate.operations.connecting import connect_to_any

_ends: ContextVar[float] = ContextVar("ends")
_call: ContextVar["Call | None"] = ContextVar("call", default=None)
# getaddrinfo knows no deadline; everything after it obeys ours.
_Options = Iterable[Any] | None


class Call(Protocol):
    """The one request that is made within a deadline: it is asked before its first byte, and told after it."""

    def begin(self) -> float:
        """Right before the first byte, once a connection is open; may wait. Returns how many seconds are left then."""
        ...

    def sent(self) -> None:
        """Right after the first byte."""
        ...


@contextmanager
def ends_at(monotonic: float, *, call: Call | None = None) -> Iterator[None]:
    """Sets the deadline of every socket operation of this thread within it, on the monotonic clock.

    `call`: whose first byte is the next that is written.
    """
    ends, first = _ends.set(monotonic), _call.set(call)
    try:
        yield
    finally:
        _ends.reset(ends)
        _call.reset(first)


def _left(error: type[Exception]) -> float:
    left = _ends.get() - clock.monotonic()
    if left <= 0:
        raise error("the time for this call is over")
    return left


class DeadlineBackend(httpcore2.NetworkBackend):
    """httpcore's network backend with a deadline: connects to the first address of a host that answers."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
        local_address: str | None = None,  # noqa: ARG002 - we name none
        socket_options: _Options = None,  # noqa: ARG002 - we name none
    ) -> httpcore2.NetworkStream:
        """Connects as httpcore's own backend does; raises ConnectTimeout and ConnectError."""
        addresses = self.addresses_of(host, port)
        if not addresses:
            raise httpcore2.ConnectError(f"{host} has no address")
        try:
            return _DeadlineStream(connect_to_any(addresses, port, self.seconds_left))
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error

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
    """A connection whose every operation has only what is left until the deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline rules
        with _told_as(httpcore2.ReadTimeout, httpcore2.ReadError):
            self._sock.settimeout(_left(httpcore2.ReadTimeout))
            return self._sock.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the deadline rules
        unsent = memoryview(buffer)
        with _told_as(httpcore2.WriteTimeout, httpcore2.WriteError):
            # What opens a way through a proxy is no call yet, nor is the nothing that ends it.
            if buffer and not buffer.startswith(b"CONNECT ") and (call := _call.get()):
                _call.set(None)
                unsent = unsent[self._sent_at_once(unsent, call) :]
            while unsent:
                self._sock.settimeout(_left(httpcore2.WriteTimeout))
                unsent = unsent[self._sock.send(unsent) :]

    def _sent_at_once(self, buffer: memoryview, call: Call) -> int:
        """Begins the call; returns how many bytes went out without waiting.

        Nothing stands between the last look at the slot and the first byte: to set a timeout, or to send with one,
        gives the interpreter lock away before it sends, and each other thread may keep that for 5 ms.
        """
        self._sock.settimeout(0)
        _ends.set(clock.monotonic() + call.begin())
        try:
            sent = self._sock.send(buffer)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        call.sent()
        return sent

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
    ) -> httpcore2.NetworkStream:
        try:
            with _told_as(httpcore2.ConnectTimeout, httpcore2.ConnectError):
                self._sock.settimeout(_left(httpcore2.ConnectTimeout))
                return _DeadlineStream(ssl_context.wrap_socket(self._sock, server_hostname=server_hostname))
        except BaseException:
            self.close()
            raise

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks of a connection: its socket, TLS, and whether the other side has closed or sent more."""
        match info:
            case "socket":
                return self._sock
            case "ssl_object":
                return self._sock if isinstance(self._sock, ssl.SSLSocket) else None
            case "is_readable":
                return _is_readable(self._sock)
        return None


@contextmanager
def _told_as(too_late: type[Exception], failed: type[Exception]) -> Iterator[None]:
    """Raises a socket's errors as httpcore's."""
    try:
        yield
    except TimeoutError as error:
        raise too_late(str(error)) from error
    except OSError as error:
        raise failed(str(error)) from error


def _is_readable(sock: socket.socket) -> bool:
    if sock.fileno() < 0:
        return True
    asked = select.poll()
    asked.register(sock, select.POLLIN)
    return bool(asked.poll(0))
