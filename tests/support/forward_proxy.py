"""A forward proxy as companies have them: CONNECT for https, whole URLs for http, a name and password if it asks."""

import base64
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_END = b"\r\n\r\n"


class ForwardProxy:
    """Serves one thread a connection until it is closed. `asked`: the first line of each request; `opened`: is called
    when a tunnel is open."""

    def __init__(self, credentials: str | None = None) -> None:
        self.asked: list[str] = []
        self.opened: Callable[[], None] = lambda: None
        self._wanted = credentials and "Basic " + base64.b64encode(credentials.encode()).decode()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, suppress(OSError):
            head = b""
            while _END not in head:
                data = near.recv(65536)
                if not data:
                    return
                head += data
            head, _, rest = head.partition(_END)
            first, *fields = head.decode("latin-1").split("\r\n")
            self.asked.append(first)
            headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            if self._wanted and headers.get("proxy-authorization") != self._wanted:
                near.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            method, target, version = first.split(" ")
            parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
            with socket.create_connection((parts.hostname, parts.port or 80), timeout=5) as far:
                if method == "CONNECT":
                    near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self.opened()
                else:
                    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                    own = [field for field in fields if not field.lower().startswith("proxy-")]
                    far.sendall("\r\n".join([f"{method} {path} {version}", *own]).encode("latin-1") + _END + rest)
                _pump(near, far)


def _pump(near: socket.socket, far: socket.socket) -> None:
    while True:
        for each in select.select([near, far], [], [], 5)[0]:
            data = each.recv(65536)
            if not data:
                return
            (far if each is near else near).sendall(data)


@contextmanager
def forward_proxy(credentials: str | None = None) -> Iterator[ForwardProxy]:
    """A proxy for a test."""
    proxy = ForwardProxy(credentials)
    try:
        yield proxy
    finally:
        proxy.close()
