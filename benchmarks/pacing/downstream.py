"""A downstream that writes down when each call came, and can be as strict as a partner.

Run it with `python -m benchmarks.pacing.downstream`.

POST /<lane>/<milliseconds>, or /<lane>/<least>-<most> for calls of random length, is answered after that time. Each
call is a JSON line in the log, written when it ends: `at` and `until` (seconds since 1970), `lane`, `job` (its
Idempotency-Key), `status`, and `open`, how many calls of its lane were open at its arrival, itself included. A caller
that is killed does not end its call: a real service goes on computing too.

`at` is when the first byte arrived by the kernel's clock, however late this process reads it (`read_at`). On the
loopback interface that is within the system call by which the caller wrote it. Where the kernel doesn't tell (other
systems than Linux), it is when it was read.

`--limit paced=50/s`, which may be repeated, makes a partner of it: a sliding window log of what it took, and 429 for
the call that is too many in any window. `--announce` lets its answers tell what is left (RateLimit and
RateLimit-Policy, draft-ietf-httpapi-ratelimit-headers).

`--unwell strict=0.1`, which may be repeated, answers 500 to that share of a lane's calls, drawn at random.
"""

import argparse
import asyncio
import bisect
import json
import random
import re
import socket
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, TextIO

from tidegate.rate import Rate

_REQUEST = re.compile(rb"POST /([a-z0-9_-]+)/(\d+)(?:-(\d+))? HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_KEY = re.compile(rb"\r\nidempotency-key: *([^\r\n]+)", re.IGNORECASE)
_SO_TIMESTAMPNS = 35  # of Linux; the module `socket` does not name it
_TIMESPEC = struct.Struct("@qq")
_ANCILLARY_BYTES = 128


class Partner:
    """What a lane may get: of each rate so many calls in any window, by a log of those that were taken."""

    def __init__(self, rates: Sequence[Rate], *, announces: bool) -> None:
        self._windows = [(rate.calls, rate.period / 1e6) for rate in rates]
        self._announces = announces
        self._taken: list[float] = []  # rising

    def takes(self, at: float) -> bool:
        """Decides about a call that arrived then, and counts it if it is taken."""
        if not all(self._fits(calls, seconds, at) for calls, seconds in self._windows):
            return False
        bisect.insort(self._taken, at)
        return True

    def _fits(self, calls: int, seconds: float, at: float) -> bool:
        """Connections are read in any order, so that an earlier call may come to be judged after a later one."""
        place = bisect.bisect(self._taken, at)
        near = [*self._taken[max(0, place - calls) : place], at, *self._taken[place : place + calls]]
        return all(last - first >= seconds for first, last in zip(near, near[calls:], strict=False))

    def headers(self, at: float) -> str:
        """The lines that tell what is left."""
        if not self._announces:
            return ""
        named = [(f'"{seconds:g}s"', calls, seconds) for calls, seconds in self._windows]
        policy = ", ".join(f"{name};q={calls};w={seconds:g}" for name, calls, seconds in named)
        left = ", ".join(f"{name};r={self._left(calls, seconds, at)};t={seconds:g}" for name, calls, seconds in named)
        return f"RateLimit-Policy: {policy}\r\nRateLimit: {left}\r\n"

    def _left(self, calls: int, seconds: float, at: float) -> int:
        return calls - sum(0 <= at - taken < seconds for taken in self._taken[-calls:])


class Service:
    """The state that all connections share. `least_seconds`: no answer comes sooner."""

    least_seconds = 0.0

    def __init__(
        self, log: TextIO, limits: Sequence[tuple[str, Rate]], unwell: Mapping[str, float], *, announces: bool
    ) -> None:
        self._log = log
        self._unwell = unwell
        self._open: Counter[str] = Counter()
        rates = defaultdict(list)
        for lane, rate in limits:
            rates[lane].append(rate)
        self._partners = {lane: Partner(each, announces=announces) for lane, each in rates.items()}

    def arrive(self, lane: str, job: str, at: float, read_at: float, _body: bytes) -> dict[str, Any]:
        """The log's line of a call, but for its end."""
        partner = self._partners.get(lane)
        status = 200 if partner is None or partner.takes(at) else 429
        if status == 200 and random.random() < self._unwell.get(lane, 0.0):  # noqa: S311 - nothing secret
            status = 500
        self._open[lane] += 1
        return {
            "at": at,
            "read_at": read_at,
            "lane": lane,
            "job": job,
            "status": status,
            "open": self._open[lane],
        }

    def answer(self, call: dict[str, Any]) -> bytes:
        """Ends a call: its place is free before its answer goes, for who has that may send the next one."""
        self._open[call["lane"]] -= 1
        until = time.time()
        self._log.write(json.dumps({**call, "until": until}) + "\n")
        partner = self._partners.get(call["lane"])
        headers = partner.headers(until) if partner else ""
        if call["status"] == 429:
            headers += "Retry-After: 1\r\n"
        status = f"{call['status']} {HTTPStatus(call['status']).phrase}"
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}"
        content = self.content(call)
        return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content

    def content(self, _call: dict[str, Any]) -> bytes:
        """The body of a call's answer."""
        return b"{}"


class Connection:
    """One keep-alive connection. One thread serves all of them."""

    def __init__(self, own: socket.socket, service: Service) -> None:
        self._socket = own
        self._service = service
        self._received = b""
        self._at = 0.0
        own.setblocking(False)
        asyncio.get_running_loop().add_reader(own, self._read)

    def _read(self) -> None:
        """Takes in what has come, the first byte of a request by itself: the kernel tells the instant of the last."""
        try:
            if not self._received:
                self._received, ancillary, *_ = self._socket.recvmsg(1, _ANCILLARY_BYTES)
                self._at = _stamp_in(ancillary)
                if not self._received:
                    self._close()
                    return
            more = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self._close()
            return
        self._received += more
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if end and len(body) >= (int(length[1]) if length else 0):
            self._received = b""
            self._take(head + end, body)
        elif not more:
            self._close()

    def _take(self, head: bytes, body: bytes) -> None:
        request, key = _REQUEST.match(head), _KEY.search(head)
        if request is None:
            self._close()
            return
        least = int(request[2])
        call = self._service.arrive(request[1].decode(), key[1].decode() if key else "", self._at, time.time(), body)
        seconds = random.uniform(least, int(request[3] or least)) / 1000  # noqa: S311 - nothing secret
        if call["status"] == 429:
            seconds = 0.0
        seconds = max(seconds, self._service.least_seconds)
        asyncio.get_running_loop().call_later(seconds, self._answer, call)

    def _answer(self, call: dict[str, Any]) -> None:
        answer = self._service.answer(call)
        try:
            self._socket.send(answer)
        except OSError:  # the caller is gone
            self._close()

    def _close(self) -> None:
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()


def _stamp_in(ancillary: Sequence[tuple[int, int, bytes]]) -> float:
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack(content)
            return float(seconds + nanoseconds / 1e9)
    return time.time()


async def serve(port: int, service: Service) -> None:
    """Serves until it is killed."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", port), backlog=256) as listening:
        listening.setblocking(False)
        if hasattr(socket, "SO_BINDTODEVICE"):  # Linux
            listening.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)  # connections inherit it
        print(f"listening on {port}", flush=True)
        while True:
            own, _ = await loop.sock_accept(listening)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Connection(own, service)


def _limit(text: str) -> tuple[str, Rate]:
    lane, _, rate = text.partition("=")
    return lane, Rate.parse(rate)


def _share(text: str) -> tuple[str, float]:
    lane, _, share = text.partition("=")
    return lane, float(share)


def main() -> None:
    """Reads where to listen, where to write and how strict to be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing.downstream", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--limit", type=_limit, action="append", default=[], metavar="LANE=RATE")
    parser.add_argument("--unwell", type=_share, action="append", default=[], metavar="LANE=SHARE")
    parser.add_argument("--announce", action="store_true", help="say in each answer what is left")
    arguments = parser.parse_args()
    with arguments.log.open("a", buffering=1, encoding="utf-8") as log:
        service = Service(log, arguments.limit, dict(arguments.unwell), announces=arguments.announce)
        asyncio.run(serve(arguments.port, service))


if __name__ == "__main__":
    main()
