"""Event streams (SSE) of the live page: HTML parts that changed, which the script puts in the place of the old ones.

Events: `parts`, a JSON object of HTML by name; `beat`, a heartbeat; `trouble`, why nothing new comes; `bye`, the end,
for nothing more happens, or the session or the job is gone.
"""

import logging
import random
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Literal, Protocol

import orjson
from flask import Response, current_app, request

from tidegate import clock
from tidegate.access.keys import Caller
from tidegate.database.connection import UNREACHABLE
from tidegate.errors import DatabaseTooSlowError, NoRoom, NotShared, UnknownDownstream, UnknownJob
from tidegate.notify.subscription import Subscription
from webapp.context import context
from webapp.http.answers import EVENT_STREAM
from webapp.page.board import LOOK_SECONDS
from webapp.page.job_view import JobView
from webapp.page.partition_table import PartitionTable
from webapp.page.parts import OverviewParts, Parts
from webapp.page.session import COOKIE

log = logging.getLogger(__name__)

# A browser's delay before it connects again, in milliseconds: random, so that many do not come at once.
_RETRY = (1000, 3000)
_BEAT_SECONDS = 10.0
# For so long a final job's stream goes on while its webhook is not delivered.
_UNTIL_TOLD_SECONDS = 600.0
# A page of partitions is read so often, or rests so many times as long as that took.
_PARTITION_SECONDS, _REST = 2.0, 20
_TROUBLE = "The database does not answer. This is what was last seen."


class Scene(Protocol):
    """The interface of what a stream shows: the overview, or one job."""

    def parts(self) -> Parts:
        """The HTML parts as they are now; raises one of UNREACHABLE, and UnknownJob for a job that was erased."""
        ...

    def is_over(self) -> bool:
        """Whether it will never change again."""
        ...

    def wait(self) -> None:
        """Waits until it may have changed."""
        ...


def overview_stream(known: Caller, overview: OverviewParts) -> Response:
    """The event stream of the overview, an update a second at the most; raises NoRoom."""
    if request.method == "HEAD":
        return Response(content_type=EVENT_STREAM)
    watch = _room(context().watcher.hold(known.client_id))
    return _answer(_Events(watch, _OverviewScene(watch, overview, known.scope)))


def job_stream(known: Caller, view: JobView) -> Response:
    """The event stream of one job's page, with each of its changes; raises NoRoom."""
    if request.method == "HEAD":
        return Response(content_type=EVENT_STREAM)
    watcher = context().watcher
    is_final = view.job.state.is_final
    watch = _room(watcher.hold(known.client_id) if is_final else watcher.watch(view.job, known.client_id))
    return _answer(_Events(watch, _JobScene(watch, view, is_operator=known.scope is None)))


def partition_stream(known: Caller, table: PartitionTable) -> Response:
    """The event stream of a page of partitions; raises NoRoom."""
    if request.method == "HEAD":
        return Response(content_type=EVENT_STREAM)
    watch = _room(context().watcher.hold(known.client_id))
    return _answer(_Events(watch, _PartitionsScene(watch, table)))


def _room(watch: Subscription | None) -> Subscription:
    if watch is None:
        raise NoRoom("as many pages and requests are held open as may be; try again later")
    return watch


def _answer(events: "_Events") -> Response:
    response = Response(events, content_type=EVENT_STREAM)
    response.call_on_close(events.watch.close)
    response.headers["X-Accel-Buffering"] = "no"  # else nginx buffers the stream
    response.headers["Cache-Control"] = "private, no-cache"
    return response


class _OverviewScene:
    """The overview's scene.

    All viewers wake at the same moments, so that one look serves them: it is made by one thread at a time, and so takes
    no turn from other requests.
    """

    def __init__(self, watch: Subscription, overview: OverviewParts, client_id: str | None) -> None:
        self._watch = watch
        self._overview = overview
        self._client_id = client_id

    def parts(self) -> Parts:
        return self._overview.now(self._client_id)

    def is_over(self) -> bool:
        return False

    def wait(self) -> None:
        self._watch.next(LOOK_SECONDS - clock.monotonic() % LOOK_SECONDS)


class _JobScene:
    """A job's scene. A change is shown at once; position and estimates, which cost nothing, each second."""

    def __init__(self, watch: Subscription, view: JobView, *, is_operator: bool) -> None:
        self._watch = watch
        self._view = view
        self._is_operator = is_operator
        self._gateway = context()
        self._environment = current_app.jinja_env
        self._ends_at = clock.monotonic() + _UNTIL_TOLD_SECONDS

    def parts(self) -> Parts:
        return self._view.parts(self._environment, is_operator=self._is_operator)

    def is_over(self) -> bool:
        is_final = self._view.job.state.is_final
        return self._view.is_settled or (is_final and clock.monotonic() >= self._ends_at)

    def wait(self) -> None:
        news = self._watch.next(LOOK_SECONDS)
        with self._gateway.turns.taken() if news or self._view.job.state.is_final else nullcontext():
            self._view = self._view.moved_on(self._gateway, news[0] if news else None)
        if not self._view.job.state.is_final:
            self._ends_at = clock.monotonic() + _UNTIL_TOLD_SECONDS


class _PartitionsScene:
    """The scene of a page of partitions: these alone are read each time, at most a twentieth of the time."""

    def __init__(self, watch: Subscription, table: PartitionTable) -> None:
        self._watch = watch
        self._table = table
        self._gateway = context()
        self._environment = current_app.jinja_env
        self._told: Parts = {}
        self._took = 0.0

    def parts(self) -> Parts:
        began = clock.monotonic()
        try:
            with self._gateway.turns.taken():
                self._table = self._table.moved_on(self._gateway)
                self._told = self._table.parts(self._gateway, self._environment)
        except (UnknownDownstream, NotShared) as error:
            raise UnknownJob(str(error)) from None
        except DatabaseTooSlowError as error:
            log.warning("partitions of %s are shown as they were: %s", self._table.lane, error)
        self._took = clock.monotonic() - began
        return self._told

    def is_over(self) -> bool:
        return False

    def wait(self) -> None:
        self._watch.next(max(_PARTITION_SECONDS, _REST * self._took))


class _Events:
    """The iterator of a stream's events. It outlives its request, so it keeps what it needs of it."""

    def __init__(self, watch: Subscription, scene: Scene) -> None:
        self.watch = watch
        self._scene = scene
        self._gateway = context()
        self._cookie = request.cookies.get(COOKIE, "")

    def __iter__(self) -> Iterator[bytes]:
        yield b"retry: %d\n\n" % random.randint(*_RETRY)  # noqa: S311 - to spread them, not to hide anything
        told: Parts = {}
        beat_due = clock.monotonic()
        while not self.watch.is_over:
            try:
                if clock.monotonic() >= beat_due:
                    if not self._is_welcome():
                        yield _event("bye", "session")
                        return
                    yield _event("beat", "well")
                    beat_due = clock.monotonic() + _BEAT_SECONDS
                parts = self._scene.parts()
                if changed := {name: html for name, html in parts.items() if told.get(name) != html}:
                    if not self._is_welcome():
                        yield _event("bye", "session")
                        return
                    yield _event("parts", orjson.dumps(changed, default=str).decode())
                    told = parts
                if self._scene.is_over():
                    yield _event("bye", "end")
                    return
                self._scene.wait()
            except UnknownJob:
                yield _event("bye", "gone")
                return
            except UNREACHABLE:
                yield _event("trouble", _TROUBLE)
                told = {}
                self.watch.next(LOOK_SECONDS)

    def _is_welcome(self) -> bool:
        """Whether the session is still good: its key may be revoked, or its owner signed out."""
        authenticator = self._gateway.authenticator
        return authenticator is None or authenticator.visitor(self._cookie) is not None


def _event(name: Literal["parts", "beat", "trouble", "bye"], data: str) -> bytes:
    """One server-sent event. Its data is one line, as JSON is, and never empty: browsers skip empty events."""
    return f"event: {name}\ndata: {data}\n\n".encode()
