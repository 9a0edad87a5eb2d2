"""A downstream for one test: a real HTTP server in a thread that answers as the test says, byte for byte."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Received:
    """One request as it came in; names of headers in lower case."""

    line: str
    headers: Mapping[str, str]
    body: bytes


class HttpServer:
    """Takes connections until the end of the test. `answer` gets each request and writes to its socket."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.received: list[Received] = []
        self.answer: Callable[[socket.socket], None] = respond(200)
        self._host = f"[{host}]" if ":" in host else host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Of its root, without a slash at the end."""
        return f"http://{self._host}:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Cuts every connection off and refuses new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=5)  # one more may have been taken a moment ago
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _listen(self) -> None:
        while self._listener.fileno() >= 0:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed, or this process has no more files, as a test may have it
                time.sleep(0.01)
                continue
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError), connection.makefile("rb") as stream:
            while line := stream.readline():
                headers = {}
                while field := stream.readline().strip():
                    name, _, value = field.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                body = stream.read(int(headers.get("content-length", 0)))
                self.received.append(Received(line=line.decode().strip(), headers=headers, body=body))
                self.answer(connection)


def respond(status: int, body: bytes = b"", **headers: str) -> Callable[[socket.socket], None]:
    """A whole answer at once; `content_type="text/csv"` is the header Content-Type."""
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
    return lambda connection: connection.sendall(head.encode("latin-1") + body)


def in_turn(*answers: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """One answer after the other; the last one again and again."""
    left = list(answers)

    def answer(connection: socket.socket) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(connection)

    return answer


def drip(head: bytes, stopped: threading.Event, *, drop: bytes = b"x") -> Callable[[socket.socket], None]:
    """Sends `head` and then a drop every 20 ms until `stopped`: each read succeeds, the whole never does."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while not stopped.wait(0.02):
            connection.sendall(drop)

    return answer


@contextmanager
def serving() -> Iterator[HttpServer]:
    """A server for the time of a test."""
    server = HttpServer()
    try:
        yield server
    finally:
        server.close()
