"""A sample downstream: a small HTTP service that takes only so many calls, and says so when there are more.

It is as strict as a partner's API: of a rate of N it takes N calls in any second, wherever that second begins, and
refuses the next with 429. A call counts from the instant at which its first line came in: on Linux by the kernel, for a
busy machine lets this process read it later.

Run it with `python -m demo.downstream --port 8001` and ask it for a quote:

    curl -d '{"sku": "A-100", "quantity": 3}' http://127.0.0.1:8001/quote

It stands alone and knows nothing of Tidegate. GET /stats counts what it took and refused; GET /health answers.
"""

import argparse
import bisect
import io
import json
import math
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any

from demo.quotes import QuoteError, quote

WINDOW = 1.0
# Linux's SO_TIMESTAMPNS, which `socket` does not name, and what it tells of a segment: seconds and nanoseconds.
_TIMESTAMPS = 35 if sys.platform == "linux" else None
_TIMESPEC = struct.Struct("@ll")
STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


@dataclass
class Counts:
    """What GET /stats answers. `accepted` counts every call that was within the capacity, malformed ones too."""

    accepted: int = 0
    refused_rate: int = 0
    refused_concurrency: int = 0
    open: int = 0
    max_open: int = 0


@dataclass(frozen=True)
class Arrival:
    """A call as it came in: whether it was taken, and how many were open then, itself included if it was."""

    status: HTTPStatus
    open: int


class Capacity:
    """What the service can take: so many calls in any second, so many at once. Safe to use from many threads."""

    def __init__(self, *, rate: int, concurrency: int) -> None:
        self._rate = rate
        self._concurrency = concurrency
        self._accepted_at: list[float] = []  # rising: a sliding window log
        self._counts = Counts()
        self._lock = threading.Lock()

    def arrive(self, at: float) -> Arrival:
        """Decides about a call that arrived then (monotonic seconds). Only what it accepts counts against the rate.

        OK takes a place, which `leave` gives back; 429 is too many in a second, 503 too many at once. Threads may be a
        little late to ask: the instants count, not the order of asking.
        """
        with self._lock:
            counts = self._counts
            if not self._has_room(at):
                counts.refused_rate += 1
                return Arrival(HTTPStatus.TOO_MANY_REQUESTS, counts.open)
            if counts.open >= self._concurrency:
                counts.refused_concurrency += 1
                return Arrival(HTTPStatus.SERVICE_UNAVAILABLE, counts.open)
            bisect.insort(self._accepted_at, at)
            counts.accepted += 1
            counts.open += 1
            counts.max_open = max(counts.max_open, counts.open)
            return Arrival(HTTPStatus.OK, counts.open)

    def _has_room(self, at: float) -> bool:
        """Whether no second would have more calls than the rate, wherever it begins."""
        del self._accepted_at[: bisect.bisect(self._accepted_at, at - 2 * WINDOW)]
        place = bisect.bisect(self._accepted_at, at)
        before, after = self._accepted_at[:place][-self._rate :], self._accepted_at[place:][: self._rate]
        near = [*before, at, *after]
        return all(last - first >= WINDOW for first, last in zip(near, near[self._rate :], strict=False))

    def leave(self) -> None:
        """Gives the place of an accepted call back."""
        with self._lock:
            self._counts.open -= 1

    def counts(self) -> Counts:
        """A copy of the counts of this moment."""
        with self._lock:
            return Counts(**asdict(self._counts))


class ArrivalLog:
    """One JSON line a call to /quote, written when it is answered and flushed at once."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("a", encoding="utf-8") if path else None
        self._lock = threading.Lock()

    def write(self, *, at: float, status: int, job: str | None, open_calls: int) -> None:
        """`at`: seconds since 1970 when the first line had arrived; `job`: the call's Idempotency-Key."""
        if self._file:
            line = json.dumps({"at": at, "status": status, "job": job, "open": open_calls})
            with self._lock:
                self._file.write(line + "\n")
                self._file.flush()


class StampedInput(io.RawIOBase):
    """What comes in on a connection, with the instant at which the last of it came (monotonic)."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self.arrived_at = time.monotonic()

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads what is there, or waits for it."""
        number, told, _, _ = self._connection.recvmsg_into([buffer], socket.CMSG_SPACE(_TIMESPEC.size))
        self.arrived_at = time.monotonic()
        for level, kind, content in told:
            if (level, kind) == (socket.SOL_SOCKET, _TIMESTAMPS):
                seconds, nanoseconds = _TIMESPEC.unpack(content)
                self.arrived_at -= max(0.0, time.time() - seconds - nanoseconds / 1e9)
        return number


class Server(ThreadingTCPServer):
    """The listening socket; a thread for every connection, none of which outlives the process."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], *, capacity: Capacity, log: ArrivalLog, delay: float) -> None:
        super().__init__(address, Handler)
        if _TIMESTAMPS is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)  # connections inherit it
        self.capacity = capacity
        self.log = log
        self.delay = delay

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hung up is nothing to talk about; everything else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "SampleDownstream"
    sys_version = ""
    timeout = 60
    # Headers and body leave in one segment, and at once.
    wbufsize = 64 * 1024
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Reads the connection by way of what tells when it came in."""
        super().setup()
        self._input = StampedInput(self.connection)
        self.rfile = io.BufferedReader(self._input)

    def parse_request(self) -> bool:
        """Reads the headers. The request's first line is there by now: that is when it arrived."""
        self._arrived_at = self._input.arrived_at
        return super().parse_request()

    def do_GET(self) -> None:
        """GET /health and GET /stats."""
        if self.path == "/health":
            self._answer(HTTPStatus.OK, {"status": "ok"})
        elif self.path == "/stats":
            self._answer(HTTPStatus.OK, asdict(self.server.capacity.counts()))
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": "there are POST /quote, GET /stats and GET /health"})

    def do_POST(self) -> None:
        """POST /quote."""
        if self.path != "/quote":
            self.close_connection = True  # its body was not read
            self._answer(HTTPStatus.NOT_FOUND, {"error": "there is POST /quote"})
            return
        at = time.time() - (time.monotonic() - self._arrived_at)
        arrival = self.server.capacity.arrive(self._arrived_at)
        content = self._body()
        if arrival.status is HTTPStatus.OK:
            time.sleep(self.server.delay)
            status, answer = _answer_to(content)
            self.server.capacity.leave()  # before the answer: who has it may send the next call into this place
        else:
            status, answer = arrival.status, {"error": "more calls than this service can take; try again later"}
        job = self.headers.get("Idempotency-Key")
        self.server.log.write(at=at, status=status, job=job, open_calls=arrival.open)
        self._answer(status, answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Says nothing: --log has every call, and standard output only the address."""

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if re.fullmatch(r"[0-9]{1,5}", length):  # a quote takes far less than 100 kB
            with suppress(OSError):  # the caller hung up or stalled
                return self.rfile.read(int(length))
        self.close_connection = True
        return b""

    def _answer(self, status: HTTPStatus, answer: Mapping[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            self.send_header("Retry-After", str(math.ceil(WINDOW)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def _answer_to(content: bytes) -> tuple[HTTPStatus, dict[str, Any]]:
    try:
        return HTTPStatus.OK, quote(content)
    except QuoteError as error:
        return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.downstream", description="A downstream with a capacity.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001, help="0 takes any free one (default: %(default)s)")
    parser.add_argument("--rate", type=_positive, default=20, help="calls in any second (default: %(default)s)")
    parser.add_argument("--concurrency", type=_positive, default=4, help="calls open at once (default: %(default)s)")
    parser.add_argument("--delay", type=_seconds, default=0.05, help="seconds that a call takes (default: %(default)s)")
    parser.add_argument("--log", type=Path, help="file that gets a JSON line for every call")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 3600")
    return seconds


def main() -> None:
    """Serves until SIGTERM or SIGINT, and is gone within a second of it."""
    arguments = _arguments()
    # Blocked here and in every thread started from here on; sigwait takes them, so nothing is interrupted halfway.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    capacity = Capacity(rate=arguments.rate, concurrency=arguments.concurrency)
    address = (arguments.host, arguments.port)
    with Server(address, capacity=capacity, log=ArrivalLog(arguments.log), delay=arguments.delay) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        print(f"listening on http://{arguments.host}:{server.server_address[1]}", flush=True)
        signal.sigwait(STOP_SIGNALS)
        server.shutdown()


if __name__ == "__main__":
    main()
