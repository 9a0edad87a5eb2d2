"""Attacks on a running gateway: whom they are made on, and a bystander that must not notice them."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2

LIVE_SECONDS = 1.0
"""Within this /health/live answers, whatever else happens."""
_GIVE_UP_SECONDS = 10.0
_PAUSE_SECONDS = 0.1
# A test machine stands still for a moment now and then. A server that is held up is so for all that ask.
_SHARE_ON_TIME = 0.9


@dataclass(frozen=True, kw_only=True)
class Target:
    """A running gateway. `key` is of a client who must not notice, `attacker_key` of the one who attacks; both are
    empty where keys are off. `operation` takes any JSON. Attacks are `size` times as large as in `make test`.
    """

    url: str
    operation: str
    key: str = ""
    attacker_key: str = ""
    size: int = 1

    @property
    def submit_path(self) -> str:
        """Where jobs are submitted."""
        return f"/v1/operations/{self.operation}/jobs"

    def connect(self, *, timeout: float = 10) -> socket.socket:
        """A connection on which nothing was sent."""
        parts = urlsplit(self.url)
        return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=timeout)

    def head(self, method: str, path: str, *fields: str, key: str | None = None) -> bytes:
        """A request's head with these fields and this key (left out: the attacker's), its last empty line included."""
        key = self.attacker_key if key is None else key
        lines = [f"{method} {path} HTTP/1.1", f"Host: {urlsplit(self.url).netloc}", *fields]
        if key:
            lines.append(f"Authorization: Bearer {key}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def client(self, key: str | None = None, *, timeout: float = 10) -> httpx2.Client:
        """An HTTP client with this key (left out: the attacker's)."""
        key = self.attacker_key if key is None else key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=self.url, headers=headers, trust_env=False, timeout=timeout)


@dataclass
class Samples:
    """What one question of the bystander was answered: seconds of good answers, and what was wrong with the others."""

    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def check(self, name: str, within_seconds: float) -> None:
        """Raises AssertionError unless it was always answered, and nearly always within so many seconds."""
        assert not self.faults, f"{name}: {len(self.faults)} of {self.count} failed, first: {self.faults[0]}"
        assert self.seconds, f"{name} was not asked once"
        on_time = sum(seconds <= within_seconds for seconds in self.seconds)
        told = ", ".join(f"{seconds:.2f}" for seconds in sorted(self.seconds)[-5:])
        assert on_time >= _SHARE_ON_TIME * self.count, f"{name}: {on_time} of {self.count} in time; longest {told} s"

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.seconds) + len(self.faults)


class Bystander:
    """Somebody else, who asks for /health/live and submits jobs, each time over a new connection."""

    def __init__(self, target: Target) -> None:
        self.live = Samples()
        self.submit = Samples()
        self._target = target
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=ask, daemon=True) for ask in (self._ask_live, self._ask_submit)]

    def start(self) -> None:
        """Begins to ask."""
        for thread in self._threads:
            thread.start()

    def watch(self, seconds: float) -> None:
        """Lets so many seconds pass while it asks."""
        time.sleep(seconds)

    def stop(self) -> None:
        """Asks no more."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _ask_live(self) -> None:
        while not self._is_over.is_set():
            self._ask(self.live, "GET", "/health/live", 200)
            self._is_over.wait(_PAUSE_SECONDS)

    def _ask_submit(self) -> None:
        while not self._is_over.is_set():
            self._ask(self.submit, "POST", self._target.submit_path, 202)
            self._is_over.wait(_PAUSE_SECONDS)

    def _ask(self, samples: Samples, method: str, path: str, status: int) -> None:
        # Not httpx2, of which making a client takes longer than the question.
        connect = http.client.HTTPSConnection if self._target.url.startswith("https:") else http.client.HTTPConnection
        headers = {"Content-Type": "application/json"} if method == "POST" else {}
        if self._target.key:
            headers["Authorization"] = f"Bearer {self._target.key}"
        began = time.monotonic()
        connection = connect(urlsplit(self._target.url).netloc, timeout=_GIVE_UP_SECONDS)
        try:
            connection.request(method, path, b"{}" if method == "POST" else None, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            samples.faults.append(f"after {time.monotonic() - began:.1f} s {error!r}")
            return
        finally:
            connection.close()
        if answer.status == status:
            samples.seconds.append(time.monotonic() - began)
        else:
            samples.faults.append(f"{answer.status} {text[:500]}")


@contextmanager
def under_attack(target: Target) -> Iterator[Bystander]:
    """While the attack in its body lasts, a bystander asks; at the end it must not have noticed.

    Raises AssertionError unless /health/live answered within `LIVE_SECONDS` and every submit was accepted. Attacks that
    only begin something call `watch` of what they are given, so that it has time to show.
    """
    bystander = Bystander(target)
    bystander.start()
    try:
        yield bystander
    finally:
        bystander.stop()
    bystander.live.check("GET /health/live", LIVE_SECONDS)
    bystander.submit.check(f"POST {target.submit_path}", _GIVE_UP_SECONDS)


@contextmanager
def connections(target: Target, count: int, first_bytes: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections at once, each of which has sent these bytes."""
    with ExitStack() as opened:
        made = []
        for _ in range(count):
            connection = target.connect()
            opened.callback(connection.close)
            made.append(connection)
            with suppress(ConnectionError):  # it may be refused or closed already: that is a defence, too
                connection.sendall(first_bytes)
        yield made
