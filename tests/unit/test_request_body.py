"""Bodies under a deadline, and so many of one client: over streams that give what the test lets them."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from werkzeug.exceptions import ClientDisconnected

from tests.support.waiting import wait_until
from tidegate import clock
from tidegate.errors import BodyTooSlow, TooManyBodies
from webapp.serving import request_body
from webapp.serving.request_body import PIECE, PIECE_SECONDS, STRANGER, BodyReader


class Upload:
    """The stream of a request whose client sends when it is told to. Reads wait for as much as they ask for."""

    def __init__(self) -> None:
        self._sent = b""
        self._is_over = False
        self._changed = threading.Condition()

    def send(self, content: bytes, *, and_break_off: bool = False) -> None:
        with self._changed:
            self._sent += content
            self._is_over |= and_break_off
            self._changed.notify_all()

    def read(self, size: int) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: len(self._sent) >= size or self._is_over)
            given, self._sent = self._sent[:size], self._sent[size:]
            return given


class Uploads:
    """Requests whose bodies are read side by side by one reader."""

    def __init__(self, most_bytes: int = 10 * PIECE) -> None:
        self.reader = BodyReader(most_bytes)
        self.streams: list[Upload] = []
        self._threads = ThreadPoolExecutor(400)

    def begin(self, client_id: str = "shop", length: int = 10) -> Future[bytes]:
        """Begins one and waits until it is read, or waits to be."""
        stream = Upload()
        self.streams.append(stream)
        before = self.count
        environ = {"wsgi.input": stream, "wsgi.input_terminated": True, "CONTENT_LENGTH": str(length)}
        reading = self._threads.submit(self.reader.read, environ, client_id, length)
        wait_until(lambda: self.count > before or reading.done(), description="its reading has begun")
        return reading

    @property
    def count(self) -> int:
        """How many are read, or wait to be."""
        return sum(len(sender.readings) + sender.waiting for sender in self.reader._senders.values())

    def cut(self, seconds: float) -> int:
        """How many are cut so many seconds from now; their streams end, as those of a server do."""
        overdue = self.reader.overdue(clock.monotonic() + seconds)
        for reading in overdue:
            reading.environ["wsgi.input"].send(b"", and_break_off=True)
        return len(overdue)

    def end(self) -> None:
        for stream in self.streams:
            stream.send(b"", and_break_off=True)
        self._threads.shutdown()


@pytest.fixture(autouse=True)
def watchdog_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test looks in its place."""
    monkeypatch.setattr(BodyReader, "_watch", lambda _self: None)


@pytest.fixture
def uploads() -> Iterator[Uploads]:
    made = Uploads()
    yield made
    made.end()


def test_a_body_is_read_whole_in_as_many_pieces_as_it_takes(uploads: Uploads) -> None:
    content = bytes(range(256)) * 600
    reading = uploads.begin(length=len(content))
    for start in range(0, len(content), 7777):
        uploads.streams[0].send(content[start : start + 7777])
    assert reading.result(10) == content
    assert uploads.count == 0


def test_nothing_is_read_of_a_body_of_nothing(uploads: Uploads) -> None:
    assert uploads.begin(length=0).result(10) == b""


@pytest.mark.parametrize(
    ("length", "sent"), [(10, 0), (10, 9), (3 * PIECE, 0), (3 * PIECE, PIECE), (3 * PIECE, PIECE + 1)]
)
def test_a_body_that_breaks_off_is_none(uploads: Uploads, length: int, sent: int) -> None:
    reading = uploads.begin(length=length)
    uploads.streams[0].send(b"x" * sent, and_break_off=True)
    with pytest.raises(ClientDisconnected):
        reading.result(10)
    assert uploads.count == 0


@pytest.mark.parametrize("client_id", ["shop", STRANGER])
def test_what_is_late_is_cut_and_says_so(uploads: Uploads, client_id: str) -> None:
    reading = uploads.begin(client_id)
    assert uploads.cut(PIECE_SECONDS - 1) == 0
    assert uploads.cut(PIECE_SECONDS) == 1
    assert uploads.cut(PIECE_SECONDS + 1) == 0, "once"
    with pytest.raises(BodyTooSlow):
        reading.result(10)


def test_each_piece_has_its_time(uploads: Uploads) -> None:
    reading = uploads.begin(length=2 * PIECE)
    (entry,) = uploads.reader._senders["shop"].readings
    first_due = entry.due
    uploads.streams[0].send(b"x" * PIECE)
    wait_until(lambda: entry.due > first_due, description="the first piece is there")
    assert entry.due == pytest.approx(clock.monotonic() + PIECE_SECONDS, abs=5)
    uploads.streams[0].send(b"x" * PIECE)
    assert len(reading.result(10)) == 2 * PIECE


def test_a_body_that_was_whole_when_it_was_cut_is_none(uploads: Uploads) -> None:
    """The answer to it was given already: a job would be one that nobody was told of."""
    reading = uploads.begin()
    assert len(uploads.reader.overdue(clock.monotonic() + PIECE_SECONDS)) == 1
    uploads.streams[0].send(b"x" * 10)
    with pytest.raises(BodyTooSlow):
        reading.result(10)


@pytest.mark.parametrize(("client_id", "slow"), [("shop", 32), (STRANGER, 8)])
def test_of_too_many_slow_ones_those_go_that_brought_least_then_the_oldest(
    uploads: Uploads, client_id: str, slow: int
) -> None:
    busy = uploads.begin(client_id, length=2 * PIECE)
    uploads.streams[0].send(b"x" * PIECE)
    readings = [uploads.begin(client_id) for _ in range(slow + 2)]
    assert uploads.cut(0) == 0, "in a burst all are new"
    assert uploads.cut(2) == 3
    for reading in readings[:3]:
        with pytest.raises(BodyTooSlow):
            reading.result(10)
    assert not busy.done()
    assert not any(reading.done() for reading in readings[3:])


def test_one_client_leaves_room_to_the_others(uploads: Uploads) -> None:
    for _ in range(256):
        uploads.begin("shop")
    with pytest.raises(TooManyBodies):
        uploads.begin("shop").result(10)
    other = uploads.begin("other")
    uploads.streams[-1].send(b"0123456789")
    assert other.result(10) == b"0123456789"


def test_one_that_waits_is_read_when_another_has_ended(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "_WAIT_SECONDS", 60)
    for _ in range(128):
        uploads.begin()
    waiting = uploads.begin()
    uploads.streams[-1].send(b"0123456789")
    wait_until(lambda: uploads.reader._senders["shop"].waiting == 1, description="it waits")
    uploads.streams[0].send(b"0123456789")
    assert waiting.result(10) == b"0123456789"


def test_one_that_waits_in_vain_is_refused(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "_WAIT_SECONDS", 0.1)
    for _ in range(32):
        uploads.begin(STRANGER)
    with pytest.raises(TooManyBodies):
        uploads.begin(STRANGER).result(10)
    assert uploads.count == 32


def test_large_bodies_of_one_client_are_bounded_in_bytes(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "_WAIT_SECONDS", 0.1)
    first = uploads.begin(length=20 * PIECE)
    assert not first.done(), "one may be larger than all"
    with pytest.raises(TooManyBodies):
        uploads.begin(length=2 * PIECE).result(10)
    assert not uploads.begin(length=PIECE).done(), "a small one passes"
    assert not uploads.begin("other", length=10 * PIECE).done()
    uploads.streams[0].send(b"x" * 20 * PIECE)
    assert len(first.result(10)) == 20 * PIECE
    assert not uploads.begin(length=2 * PIECE).done(), "its bytes are given back"
