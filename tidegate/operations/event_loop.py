"""The event loop of this process, on which the coroutines of all `async def` operations run, in a thread of its own."""

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable

from tidegate import clock

log = logging.getLogger(__name__)

_STANDS_STILL_SECONDS = 2.0


class EventLoop:
    """An event loop in a thread; both begin with the first call. Nothing ends it, also not sys.exit() in a task."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="event loop", daemon=True)
        self._asked_at: float | None = None
        self._is_told = False

    def call(self, function: Callable[[], object]) -> None:
        """Has the loop call a function soon, in the caller's context; calls from one thread keep their order."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread.start()
        self._loop.call_soon_threadsafe(function)

    def look(self) -> None:
        """Asks the loop for a sign of life. Logs, once, where it stands if it has given none for 2 s."""
        with self._lock:
            asked_at, is_told = self._asked_at, self._is_told
            if asked_at is None:
                self._asked_at = clock.monotonic()
            still = 0.0 if asked_at is None else clock.monotonic() - asked_at
            self._is_told = is_told or still >= _STANDS_STILL_SECONDS
            tells = self._is_told and not is_told
        if asked_at is None:
            self.call(self._answer)
        if tells:
            log.warning(
                "the event loop has stood still for %.1f s at %s: all coroutines of this process wait for it; "
                "await asyncio.to_thread(...) what blocks, or put it on the cpu queue",
                still,
                self._place(),
            )

    def _answer(self) -> None:
        with self._lock:
            still = clock.monotonic() - (self._asked_at or clock.monotonic())
            was_told, self._asked_at, self._is_told = self._is_told, None, False
        if was_told:
            log.warning("the event loop goes on, after %.1f s", still)

    def _serve(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        while loop:
            try:
                loop.run_forever()
            except BaseException:
                # sys.exit() in a task of somebody's coroutine: it ends that task, and not those of others.
                log.exception("an operation's task would have ended the event loop, which goes on")

    def _place(self) -> str:
        """The task and the line that hold the loop up."""
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - there is no other way
        where = traceback.extract_stack(frame, limit=1)[0] if frame else None
        line = f"{where.filename}:{where.lineno} ({where.name})" if where else "?"
        return f"{line}, {task.get_name()}" if task else line


LOOP = EventLoop()
"""One a process: connections of a client that a module shares belong to one loop."""
