"""Many event streams in one thread: opened, followed, and opened again when they break."""

import re
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

HOST = "127.0.0.1"
_ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)
_STATE = re.compile(rb'"state":"(\w+)"')
_LONGEST_SECONDS = 120
_FINAL = {"succeeded", "failed", "expired", "cancelled"}


@dataclass
class Stream:
    """One client and what it was told last; `told_at` on the monotonic clock."""

    job_id: str
    connection: socket.socket | None = None
    is_open: bool = False
    last_id: str = ""
    state: str = ""
    told_at: float = 0.0
    connections: int = 0
    received: bytes = field(default=b"", repr=False)

    @property
    def has_ended(self) -> bool:
        """Whether it was told how its job ended."""
        return self.state in _FINAL


class Streams:
    """Streams of these jobs, each for itself."""

    def __init__(self, port: int, job_ids: Iterable[str]) -> None:
        self.all = [Stream(job_id) for job_id in job_ids]
        self._port = port
        self._selector = selectors.DefaultSelector()

    def open(self) -> None:
        """Opens all and waits for the first event of each. One that finds its process full tries again."""
        for stream in self.all:
            self._connect(stream)
        self.follow(lambda: all(stream.is_open for stream in self.all))

    def close(self) -> None:
        """Goes away."""
        for stream in self.all:
            self._drop(stream)
        self._selector.close()

    def follow(self, until: Callable[[], bool]) -> None:
        """Takes what comes until then, and connects again where a connection ends too early."""
        give_up_at = time.monotonic() + _LONGEST_SECONDS
        while not until():
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"waited {_LONGEST_SECONDS} s in vain")
            for key, _ in self._selector.select(0.5):
                self._receive(key.data)
            for stream in self.all:
                if stream.connection is None and not stream.has_ended:
                    self._connect(stream)

    def _connect(self, stream: Stream) -> None:
        try:
            connection = socket.create_connection((HOST, self._port), timeout=5)
        except OSError:
            time.sleep(0.01)  # it is being started again
            return
        last = f"Last-Event-ID: {stream.last_id}\r\n" if stream.last_id else ""
        connection.sendall(f"GET /v1/jobs/{stream.job_id}/events HTTP/1.1\r\nHost: {HOST}\r\n{last}\r\n".encode())
        stream.connection, stream.received = connection, b""
        stream.connections += 1
        self._selector.register(connection, selectors.EVENT_READ, stream)

    def _drop(self, stream: Stream) -> None:
        if stream.connection:
            self._selector.unregister(stream.connection)
            stream.connection.close()
            stream.connection, stream.is_open = None, False

    def _receive(self, stream: Stream) -> None:
        assert stream.connection is not None
        try:
            received = stream.connection.recv(65536)
        except OSError:
            received = b""
        stream.received += received
        if not received or b" 503 " in stream.received[:20]:
            self._drop(stream)
            return
        if not stream.received.rstrip(b"\r\n0").endswith(b"}}"):
            return  # not a whole event yet
        ids, states = _ID.findall(stream.received), _STATE.findall(stream.received)
        if ids and states:
            stream.told_at = time.monotonic()
            stream.last_id, stream.state, stream.is_open = ids[-1].decode(), states[-1].decode(), True
            stream.received = b""
