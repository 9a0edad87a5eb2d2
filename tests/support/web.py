"""The HTTP face without a server: Flask's client over a real database, and a worker's hand to move its jobs."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import update
from werkzeug.test import TestResponse

from config.settings import Settings
from tests.support.jobs import input_of
from tidegate.database.connection import Database
from tidegate.database.schema import jobs
from tidegate.database.statement import required
from tidegate.database.time import database_now
from tidegate.dispatch.gate import Gate
from tidegate.execution.handoff import SilentHandoff
from tidegate.execution.runner import Runner
from tidegate.jobs.job import Claim
from tidegate.notify.notifier import SilentNotifier
from tidegate.operations.operation import Body
from tidegate.operations.outcome import Succeeded
from tidegate.states import State
from tidegate.stores import Store
from webapp.app import create_app

LEASE = timedelta(seconds=60)

OPERATIONS = """\
[downstreams.sample]
rate = ["20/s", "10000/d"]
burst = 2
concurrency = 4

[operations.quote]
description = "A price."
downstream = "sample"
url = "http://127.0.0.1:1/quote?key=${QUOTE_KEY}"
headers = { Authorization = "Bearer ${QUOTE_KEY}" }
timeout = "1m"
attempt_timeout = "5s"
"""


class Web:
    """The application over one database. Nothing runs beside it: a job moves only when a test moves it."""

    def __init__(
        self,
        folder: Path,
        database_url: str,
        *,
        operations_toml: str = OPERATIONS,
        patience: timedelta | None = None,
        **settings: Any,
    ) -> None:
        operations_file = folder / "operations.toml"
        operations_file.write_text(operations_toml)
        self.settings = Settings(
            _env_file=None,
            **{
                "data": folder,
                "database_url": database_url,
                "operations_file": operations_file,
                "operations": ("tests.support.operations",),
                **settings,
            },
        )
        self.database = Database(database_url, patience=patience)
        self.store = Store(self.database)
        self.app: Flask = create_app(self.settings, self.database)
        self.client = self.app.test_client()
        self._is_declared = False

    def submit(
        self,
        operation: str = "echo",
        content: bytes | str = b"1",
        content_type: str | None = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> TestResponse:
        """POSTs to the operation and returns the answer whatever it is."""
        return self.client.post(
            f"/v1/operations/{operation}/jobs", data=content, content_type=content_type, headers=dict(headers or {})
        )

    def accepted(self, operation: str = "echo", content: bytes | str = b"1", **headers: str) -> str:
        """Submits a job that is taken and returns its id."""
        answer = self.submit(
            operation, content, headers={name.replace("_", "-"): each for name, each in headers.items()}
        )
        assert answer.status_code == 202, answer.get_data(as_text=True)
        return str(answer.get_json()["id"])

    def read(self, job_id: str) -> TestResponse:
        """GETs the job."""
        return self.client.get(f"/v1/jobs/{job_id}")

    def declare(self) -> None:
        """Makes the lanes, as a scheduler does, and says that there are workers; once."""
        if not self._is_declared:
            self.store.limits.declare(self.app.extensions["tidegate"].registry.downstreams.values())
            for queue in ("io", "cpu"):
                self.store.heartbeats.beat(f"{queue}-1", queue=queue, size=100, until=LEASE)
            self._is_declared = True

    def let_counts_be_due(self) -> None:
        """As if a second had passed since the lanes were counted: the next who asks has them counted again."""
        for lane in self.app.extensions["tidegate"].lanes._lanes.values():
            lane.due_at = float("-inf")

    def claim(self, job_id: str) -> Claim:
        """Releases the job, as the scheduler does, and claims it, as a worker does."""
        self.declare()
        released = {job.job_id: job for job in Gate(self.store.lanes).run_once().released}
        claim = self.store.claims.claim(
            job_id,
            released[job_id].fence,
            worker="io-1",
            pid=1,
            lease=LEASE,
            # Else its place would be free again after the margin of 2 s, in the middle of a test that is held up.
            attempt_timeouts={released[job_id].operation: timedelta(minutes=1)},
        )
        assert claim is not None
        return claim

    def run_released(self) -> int:
        """Releases what may go and runs it, one after the other, as scheduler and worker do; how many those were."""
        runner = Runner(
            self.store,
            self.app.extensions["tidegate"].registry,
            worker="io-1",
            lease=LEASE,
            max_result=1000,
            notifier=SilentNotifier(),
            handoff=SilentHandoff(),
        )
        released = Gate(self.store.lanes).run_once().released
        return sum(runner.run(job.job_id, job.fence) for job in released)

    def succeed(self, job_id: str, content: bytes, content_type: str = "application/json", *, is_json: bool) -> None:
        """Gives the job this result."""
        result = Succeeded(content=content, content_type=content_type, is_json=is_json)
        assert self.store.workers.succeed(self.claim(job_id), result, call_seconds=None)

    def job_in(self, state: State, operation: str = "echo", **headers: str) -> str:
        """A job that went into this state the way that jobs go there."""
        job_id = self.accepted(operation, **headers)
        match state:
            case State.QUEUED:
                pass
            case State.RUNNING:
                self.claim(job_id)
            case State.SUCCEEDED:
                self.succeed(job_id, b'{"sum":3}', is_json=True)
            case State.FAILED:
                error = {"code": "downstream_error", "message": "the downstream answered 400", "downstream_status": 400}
                assert self.store.workers.fail(self.claim(job_id), error, call_seconds=None)
            case State.EXPIRED:
                self.pass_deadline(job_id)
                self.store.upkeep.expire(10)
            case State.CANCELLED:
                assert self.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
        return job_id

    def pass_deadline(self, job_id: str) -> None:
        """Moves the job into the past, so that its deadline is this instant."""
        now, before = database_now(), database_now(timedelta(minutes=-5))
        self.database.execute(update(jobs).where(jobs.c.id == job_id).values(created_at=before, deadline=now))

    def row(self, job_id: str) -> Any:
        """The job's row as it is, without the read that applies the deadline."""
        return required(self.database.fetch_one(jobs.select().where(jobs.c.id == job_id)))

    def input_of(self, job_id: str) -> Body | None:
        """The job's input as it lies there; None: there is none."""
        return input_of(self.store, job_id)

    def count(self) -> int:
        """How many jobs are recorded."""
        return len(self.database.fetch_all(jobs.select()))

    def close(self) -> None:
        """Ends the requests that it holds and closes its connections."""
        self.app.extensions["tidegate"].watcher.close()
        self.database.close()


def assert_is_problem(answer: TestResponse, status: int, name: str) -> dict[str, Any]:
    """Asserts that this is the problem document that was promised, and returns it."""
    text = answer.get_data(as_text=True)
    assert answer.status_code == status, text
    assert answer.content_type == "application/problem+json"
    document: dict[str, Any] = answer.get_json()
    assert document["type"] == f"urn:tidegate:problem:{name}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["instance"].startswith("/")
    assert_tells_nothing(text)
    return document


def assert_tells_nothing(text: str) -> None:
    """No stack trace, no SQL, no secret, no path of this machine."""
    for word in ("Traceback", 'File "', "SELECT ", "INSERT ", "UPDATE ", "sqlite3.", "psycopg", "sqlalche", "hunter2"):
        assert word not in text
