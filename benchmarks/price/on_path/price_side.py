"""One side of the comparison: the application of the tree that stands first on PYTHONPATH, asked in this process.

Run by `python -m benchmarks.price`, which sends a line of JSON for each round and gets one back. It names only what the
trees of both revisions have; what a tree does not have is left out of both.
"""

import gc
import io
import json
import os
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from price_names import first_of, one_of
from sqlalchemy import event
from sqlalchemy.engine import Engine

from config.settings import Settings

create_app = first_of("webapp.app:create_app", "webapp:create_app")
try:
    Gate = first_of("tidegate.dispatch.gate:Gate", "tidegate.gate:Gate")
    Limits = first_of(
        "tidegate.operations.limits:Limits", "tidegate.operations.operation:Limits", "tidegate.operations:Limits"
    )
    Succeeded = first_of("tidegate.operations.outcome:Succeeded", "tidegate.outcomes:Succeeded")
except ImportError as error:
    print(f"left out, release and run: {error}", file=sys.stderr)
    Gate = None

_CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "SAVEPOINT", "RELEASE")
_LEASE = timedelta(hours=1)
_WORKER = "io-1"


class Counter:
    """How many statements SQLite was asked."""

    def __init__(self) -> None:
        self.number = 0
        event.listen(Engine, "connect", self._listen)

    def _listen(self, connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_trace_callback(self._count)

    def _count(self, statement: str) -> None:
        self.number += not statement.startswith(_CONTROL)


class Application:
    """The WSGI application, asked without a server and without a test client."""

    def __init__(self) -> None:
        self._app = create_app(Settings())
        self.own = self._app.extensions["tidegate"]

    def ask(self, method: str, path: str, content: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """Status and body."""
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "127.0.0.1:8000",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(content),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            **({"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(content))} if content else {}),
            **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
        }
        answered: list[int] = []

        def start_response(status: str, _headers: object, _error: object = None) -> Callable[[bytes], object]:
            answered.append(int(status.split(maxsplit=1)[0]))
            return lambda _: None

        chunks = self._app.wsgi_app(environ, start_response)
        try:
            body = b"".join(chunks)
        finally:
            getattr(chunks, "close", lambda: None)()
        return answered[0], body


class Acts:
    """What is paid for. Each returns nothing and raises where it did not happen."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._ids: list[str] = []
        self._asked = 0
        self._released: list[Any] = []
        self.all: dict[str, Callable[[], None]] = {
            "submit": self.submit,
            "submit under a key": self.submit_under_a_key,
            "poll of a waiting job": self.poll,
        }
        if Gate:
            self._prepare_worker()
            self.all |= {"release": self.release, "claim and success": self.run}

    def _prepare_worker(self) -> None:
        store = self._application.own.store
        store.limits.declare([Limits(name="nothing", concurrency=1)])
        beat = one_of(one_of(store, "heartbeats", "presence"), "beat", "seen")
        beat(_WORKER, queue="io", size=1, until=_LEASE)  # no room for a follower
        self._gate, self._store = Gate(store.lanes), store
        self._result = Succeeded(content=b"{}", content_type="application/json", is_json=True)

    def prepare(self) -> None:
        """What is not paid for: a scheduler's sample, as once a second."""
        one_of(self._application.own.store.samples, "sample", "take")()

    def submit(self) -> None:
        """A plain one, of which the scheduler is not told."""
        self._accepted(*self._application.ask("POST", "/v1/operations/nothing/jobs", b"{}"))

    def submit_under_a_key(self) -> None:
        """A transaction of its own."""
        key = uuid.uuid4().hex
        self._accepted(*self._application.ask("POST", "/v1/operations/nothing/jobs", b"{}", idempotency_key=key))

    def poll(self) -> None:
        """Of one job after the other."""
        self._asked = (self._asked + 1) % len(self._ids)
        status, _ = self._application.ask("GET", f"/v1/jobs/{self._ids[self._asked]}")
        assert status in {200, 202}, status

    def release(self) -> None:
        """One job, for there is one place."""
        self._released += self._gate.run_once().released
        assert len(self._released) == 1, self._released

    def run(self) -> None:
        """What a worker does with it."""
        released = self._released.pop()
        claim = one_of(self._store.claims, "claim", "take")(
            released.job_id, released.fence, worker=_WORKER, pid=1, lease=_LEASE, attempt_timeouts={}
        )
        assert claim is not None
        assert self._store.workers.succeed(claim, self._result, call_seconds=None)

    def _accepted(self, status: int, body: bytes) -> None:
        assert status == 202, (status, body)
        self._ids = [*self._ids[-199:], json.loads(body)["id"]]


def main() -> None:
    """Answers rounds until its input ends."""
    statements = Counter()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    acts = Acts(Application())
    for _ in range(100):
        acts.submit()
    print(json.dumps([*acts.all]), file=answers, flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        names = wanted["acts"]
        acts.prepare()
        spent = dict.fromkeys(names, 0.0)
        asked = dict.fromkeys(names, 0)
        gc.collect()
        for _ in range(wanted["times"]):
            for name in names:  # in turns, for what is released must be run before the next
                before, began = statements.number, time.process_time()
                acts.all[name]()
                spent[name] += time.process_time() - began
                asked[name] += statements.number - before
        print(json.dumps({"seconds": spent, "statements": asked}), file=answers, flush=True)


if __name__ == "__main__":
    main()
