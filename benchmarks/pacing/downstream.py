"""A downstream that takes everything and writes down when it came. `python -m benchmarks.pacing.downstream`.

POST /<lane>/<milliseconds>, or /<lane>/<least>-<most> for calls of random length, is answered after that time. Each
call is a JSON line in the log, written when it ends: `at` and `until` (seconds since 1970), `lane`, `job` (its
Idempotency-Key), and `open`, how many calls of its lane were open at its arrival, itself included. A caller that is
killed does not end its call: a real service goes on computing too.
"""

import argparse
import asyncio
import json
import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import TextIO

_REQUEST = re.compile(rb"POST /([a-z0-9_-]+)/(\d+)(?:-(\d+))? HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_KEY = re.compile(rb"\r\nidempotency-key: *([^\r\n]+)", re.IGNORECASE)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Connection(asyncio.Protocol):
    """One keep-alive connection. One thread serves all of them, so that an arrival is seen when it comes."""

    def __init__(self, log: TextIO, still_open: Counter[str]) -> None:
        self._log = log
        self._open = still_open
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Takes one whole request; its instant is that of its last byte, microseconds after its first."""
        at = time.time()
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        request, key = _REQUEST.match(head + end), _KEY.search(head)
        if request is None:
            self._transport.close()
            return
        lane, least = request[1].decode(), int(request[2])
        seconds = random.uniform(least, int(request[3] or least)) / 1000  # noqa: S311 - nothing secret
        self._open[lane] += 1
        arrival = {"at": at, "lane": lane, "job": key[1].decode() if key else "", "open": self._open[lane]}
        asyncio.get_running_loop().call_later(seconds, self._answer, arrival)

    def _answer(self, arrival: dict[str, object]) -> None:
        self._open[str(arrival["lane"])] -= 1  # before the answer: who has it may send the next call into this place
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)
        self._log.write(json.dumps({**arrival, "until": time.time()}) + "\n")


async def serve(port: int, log: TextIO) -> None:
    """Serves until it is killed."""
    still_open: Counter[str] = Counter()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(log, still_open), "127.0.0.1", port, backlog=256
    )
    print(f"listening on {port}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Reads where to listen and where to write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing.downstream", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    with arguments.log.open("a", buffering=1, encoding="utf-8") as log:
        asyncio.run(serve(arguments.port, log))


if __name__ == "__main__":
    main()
