"""Reads request bodies with a deadline and a limit per client: protection from slow clients (slow POST).

The server hands a body to a thread that waits for it, and has no time limit of its own. So a watchdog answers in the
place of a thread that has waited for too long, and the answer ends the connection (see `granian_worker`).
"""

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO, TYPE_CHECKING

from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_input_stream

from config.web_server import BODY_READERS
from tidegate import clock
from tidegate.errors import BodyTooSlow, TooManyBodies
from webapp.http.refusals import refusal_answer
from webapp.serving.granian_worker import answer_and_close
from webapp.serving.wsgi_answers import headers_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger(__name__)

STRANGER = ""
"""In place of a client's id: a sender who is not authenticated yet."""
PIECE = 65_536
PIECE_SECONDS = 10.0
"""Each piece of a body, or what is left of it, has so long: at least 6.5 KB/s."""

_TOO_SLOW = f"each {PIECE // 1024} KB of a body, or what is left of it, has {PIECE_SECONDS:g} s"
# A body that takes longer than this is slow because of its client, not because of us.
_SLOW_SECONDS = 0.5
_LOOK_SECONDS = 0.25
# Shared by all answers of one look: in an attack by many they may be lost.
_LINGER_SECONDS = 0.2
# How long a body waits for its client's others: in a burst the first ones are done within milliseconds.
_WAIT_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class _Share:
    """The limits of one client: bodies that are read at once, that wait to be, and that may be slow."""

    read: int
    waiting: int
    slow: int


_OF_A_CLIENT = _Share(read=BODY_READERS // 4, waiting=BODY_READERS // 4, slow=32)
_OF_STRANGERS = _Share(read=32, waiting=96, slow=8)


class BodyReader:
    """Reads the bodies of all requests of a web process.

    `most_bytes`: of one client's larger bodies together.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._senders: dict[str, _Sender] = {}
        self._lock = threading.Lock()
        self._is_wanted = threading.Event()
        self._watchdog: threading.Thread | None = None

    def read(self, environ: "WSGIEnvironment", client_id: str, length: int) -> bytes:
        """Reads the body of this length in full. Call it outside a turn (see `concurrency`).

        Raises BodyTooSlow, TooManyBodies, and ClientDisconnected for one that breaks off.
        """
        if not length:
            return b""
        reading = _Reading(environ, length, clock.monotonic())
        sender = self._begin(client_id, reading)
        try:
            content = self._read(get_input_stream(environ), reading)
        finally:
            self._end(sender, reading)
        if reading.is_cut:
            raise BodyTooSlow(_TOO_SLOW)
        if len(content) < length:
            raise ClientDisconnected("the body ended before its Content-Length")
        return content

    def _read(self, stream: IO[bytes], reading: "_Reading") -> bytes:
        if reading.length <= PIECE:
            return stream.read(reading.length)
        pieces = []
        while reading.got < reading.length:
            piece = stream.read(min(PIECE, reading.length - reading.got))
            if not piece:
                break
            pieces.append(piece)
            reading.got += len(piece)
            reading.due = clock.monotonic() + PIECE_SECONDS
        return b"".join(pieces)

    def _begin(self, client_id: str, reading: "_Reading") -> "_Sender":
        with self._lock:
            sender = self._senders.get(client_id)
            if sender is None:
                share = _OF_A_CLIENT if client_id else _OF_STRANGERS
                sender = self._senders[client_id] = _Sender(share, self._most_bytes, threading.Condition(self._lock))
            if not sender.has_room_for(reading):
                self._wait(sender, reading)
            sender.add(reading)
            if not self._is_wanted.is_set():
                self._is_wanted.set()
                if self._watchdog is None or not self._watchdog.is_alive():  # a worker is a fork
                    self._watchdog = threading.Thread(target=self._watch, name="slow-bodies", daemon=True)
                    self._watchdog.start()
        return sender

    def _wait(self, sender: "_Sender", reading: "_Reading") -> None:
        """Waits until the client's share has room. Raises TooManyBodies if there is none in time, or too many wait."""
        if sender.waiting < sender.share.waiting:
            sender.waiting += 1
            has_room = sender.changed.wait_for(lambda: sender.has_room_for(reading), _WAIT_SECONDS)
            sender.waiting -= 1
            if has_room:
                reading.begin(clock.monotonic())
                return
        raise TooManyBodies("bodies of as many requests are on their way as may be", timedelta(seconds=1))

    def _end(self, sender: "_Sender", reading: "_Reading") -> None:
        with self._lock:
            sender.remove(reading)
            if sender.waiting:
                sender.changed.notify()

    def _watch(self) -> None:
        while True:
            self._is_wanted.wait()
            clock.sleep(_LOOK_SECONDS)
            try:
                self._cut_off(self.overdue(clock.monotonic()))
            except Exception:  # goes on: without the next look nothing would cut off slow bodies
                log.exception("bodies that are too slow could not be cut off")

    def _cut_off(self, readings: "list[_Reading]") -> None:
        for reading in readings:
            answer = refusal_answer(BodyTooSlow(_TOO_SLOW), reading.environ.get("PATH_INFO") or "/")
            linger = _LINGER_SECONDS / len(readings)
            answer_and_close(reading.environ, answer.status, headers_of(answer), answer.body, linger_seconds=linger)

    def overdue(self, now: float) -> list["_Reading"]:
        """Marks and returns the bodies to cut off: their time is over, or their client has too many slow ones."""
        with self._lock:
            if not any(sender.readings for sender in self._senders.values()):
                self._is_wanted.clear()
            found = [reading for sender in self._senders.values() for reading in sender.overdue(now)]
            for reading in found:
                reading.is_cut = True
            return found


@dataclass(eq=False)
class _Sender:
    """The bodies of one client that are being read."""

    share: _Share
    most_bytes: int
    changed: threading.Condition
    readings: set["_Reading"] = field(default_factory=set)
    waiting: int = 0
    large_bytes: int = 0

    def has_room_for(self, reading: "_Reading") -> bool:
        """Whether the body may be read now. One large body always may, whatever the limits."""
        if len(self.readings) >= self.share.read:
            return False
        return reading.is_small or not self.large_bytes or self.large_bytes + reading.length <= self.most_bytes

    def add(self, reading: "_Reading") -> None:
        self.readings.add(reading)
        if not reading.is_small:
            self.large_bytes += reading.length

    def remove(self, reading: "_Reading") -> None:
        self.readings.discard(reading)
        if not reading.is_small:
            self.large_bytes -= reading.length

    def overdue(self, now: float) -> Iterable["_Reading"]:
        """The bodies that are late, and slow ones beyond the share: those with the fewest bytes go first."""
        going_on = [reading for reading in self.readings if not reading.is_cut]
        late = [reading for reading in going_on if now >= reading.due]
        slow = [reading for reading in going_on if reading.due > now >= reading.began + _SLOW_SECONDS]
        slow.sort(key=lambda reading: (reading.got, reading.began))
        return late + slow[: max(0, len(slow) - self.share.slow)]


class _Reading:
    """One body that is being read."""

    __slots__ = ("began", "due", "environ", "got", "is_cut", "is_small", "length")

    def __init__(self, environ: "WSGIEnvironment", length: int, now: float) -> None:
        self.environ = environ
        self.length = length
        self.is_small = length <= PIECE
        self.got = 0
        self.is_cut = False
        self.begin(now)

    def begin(self, now: float) -> None:
        """Starts the body's deadline."""
        self.began = now
        self.due = now + PIECE_SECONDS
