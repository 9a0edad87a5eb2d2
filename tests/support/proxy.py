"""A TCP proxy between two parts, for what goes wrong with networks: it is slow, stalls, cuts and refuses."""

import contextlib
import select
import socket
import ssl
import threading
import time
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards a loopback port to another one. `slow()` hands everything on late, `stall()` accepts and swallows,
    `swallow_answers()` hands on what is asked and not what is answered, `cut()` ends what is open, `refuse()` closes
    the door; `forward()` makes all of it good again, for new connections."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = _listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._stalled = False
        self._delay_seconds = 0.0
        self._unanswered: tuple[bytes, bytes] | None = None
        self._closed = False
        self._sockets: set[socket.socket] = set()
        self._serve()

    def forward(self) -> None:
        """Works as a wire; stalled connections go on where they were."""
        self._stalled, self._unanswered = False, None
        self._delay_seconds = 0.0
        if self._listener.fileno() == -1:
            self._listener = _listen(self.port)
            self._serve()

    def slow(self, seconds: float) -> None:
        """Hands on what comes, in either direction, so much later."""
        self._delay_seconds = seconds

    def stall(self) -> None:
        """Accepts connections and bytes, and hands nothing on."""
        self._stalled = True

    def swallow_answers(self, of: bytes, after: bytes = b"") -> None:
        """Hands on what is asked, and no answer on a connection on which these bytes were asked, `after` others."""
        self._unanswered = after, of

    def refuse(self) -> None:
        """Ends what is open and accepts nothing more."""
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Ends what is open."""
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self.refuse()

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._closed:
            try:
                if not select.select([listener], [], [], 0.1)[0]:
                    continue
                near, _ = listener.accept()
            except (OSError, ValueError):
                return
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        with near:
            try:
                far = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                return
            with far:
                self._sockets |= {near, far}
                try:
                    self._pump(near, far)
                except OSError:
                    pass
                finally:
                    self._sockets -= {near, far}

    def _pump(self, near: socket.socket, far: socket.socket) -> None:
        has_begun = is_one_way = False
        while not self._closed:
            readable, _, _ = select.select([near, far], [], [], 0.05)
            if self._stalled:
                threading.Event().wait(0.05)
                continue
            for each in readable:
                data = each.recv(65536)
                if not data:
                    return
                while isinstance(each, ssl.SSLSocket) and (left := each.pending()):  # which select does not see
                    data += each.recv(left)
                if self._delay_seconds:
                    time.sleep(self._delay_seconds)
                if each is near and self._unanswered:
                    after, of = self._unanswered
                    has_begun = has_begun or after in data
                    is_one_way = is_one_way or (has_begun and of in data)
                if each is far and is_one_way:
                    continue
                (far if each is near else near).sendall(data)


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    return listener
