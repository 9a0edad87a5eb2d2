"""schemathesis over the application: what it finds, in words, and a hand that moves the jobs meanwhile."""

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import schemathesis
from schemathesis import BaseSchema, Case, GenerationMode, HookContext, hooks
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from tests.support.web import LEASE, Web
from tidegate.gate import Gate
from tidegate.outcomes import Succeeded

_ENDS = ["expired", "succeeded", "failed", "running", "cancelled", "succeeded as bytes"]
# What a schema can't tell of a request: that an instant lies ahead, that a batch's inputs are its operation's.
_REFUSED_BY_DESIGN = {"submitBatch": [400, 410, 415, 422], "readJob": [410], "readResult": [410]}

# Who sends a header that nobody knows is not refused, over HTTP.
_UNKNOWN_HEADER = "in header - object with unexpected properties"


def faults_of(web: Web, *, examples: int, secret: str | None = None) -> tuple[list[str], set[int]]:
    """Everything that schemathesis finds (examples, boundaries, random data, walks along the links), and the
    statuses that were answered."""
    accepted: list[Any] = ["2xx", "3xx", 401, 403, 404, 409, 429, "5xx"]
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "headers": {"Authorization": f"Bearer {secret}"} if secret else {},
            "generation": {"max-examples": examples},
            "checks": {
                "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 502, 503, 504]},
                "ignored_auth": {"enabled": False},  # breaks on applications that are called without a server
            },
            "operations": [
                {
                    "include-operation-id": route,
                    "checks": {"positive_data_acceptance": {"expected-statuses": [*accepted, *statuses]}},
                }
                for route, statuses in _REFUSED_BY_DESIGN.items()
            ],
        }
    )
    web.app.before_request(_Hand(web).move)
    web.app.extensions["tidegate"].lookout.stop()  # a stream ends with its first event: nothing happens beside a call
    schema = schemathesis.openapi.from_wsgi("/openapi.json", web.app, config=config)
    faults: dict[str, None] = {}
    statuses: set[int] = set()
    for event in _events(schema):
        if isinstance(event, events.NonFatalError):
            faults[f"{event.label}: {event.value}"] = None
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            faults |= dict.fromkeys(_told(event))
            answers = [each.response for each in event.recorder.interactions.values()]
            statuses |= {answer.status_code for answer in answers if answer is not None}
    return list(faults), statuses


def _events(schema: BaseSchema) -> Iterator[events.EngineEvent]:
    schemathesis.hook("before_call")(_make_possible)
    try:
        yield from from_schema(schema).execute()
    finally:
        hooks.unregister(_make_possible)


def _told(event: events.ScenarioFinished) -> list[str]:
    failed = [check.failure_info for checks in event.recorder.checks.values() for check in checks]
    return [
        f"{each.failure.operation}: {each.failure}\n{each.code_sample}"
        for each in failed
        if each is not None and _UNKNOWN_HEADER not in str(each.failure)
    ]


def _make_possible(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Of data that should be taken: a key that nobody used before, an instant before the deadline."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    if "Job-Not-Before" in case.headers:
        case.headers["Job-Not-Before"] = "Mon, 01 Jan 2024 00:00:00 GMT"


class _Hand:
    """In place of steward and workers: at every third call it lets go what may go, and ends it in turn in each way."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._calls = itertools.count()
        self._ends = itertools.cycle(_ENDS)
        store = web.store
        store.limits.declare(web.app.extensions["tidegate"].registry.downstreams.values())
        for queue in ("io", "cpu"):
            store.presence.seen(f"{queue}-1", queue=queue, size=1000, until=LEASE)
        self._gate = Gate(store.lanes)

    def move(self) -> None:
        if next(self._calls) % 3:
            return
        workers = self._web.store.workers
        for job in self._gate.run_once().released:
            end = next(self._ends)
            if end == "expired":
                self._web.pass_deadline(job.job_id)
                continue
            if end == "cancelled":
                self._web.store.callers.cancel(job.job_id, None)
                continue
            claim = self._web.store.claims.take(
                job.job_id, job.fence, worker="io-1", pid=1, lease=LEASE, attempt_timeouts={}
            )
            if claim is None or end == "running":
                continue
            if end == "failed":
                workers.fail(claim, {"code": "operation_error", "message": "it failed"}, call_seconds=None)
            else:
                result = Succeeded(content=b"[1]", content_type="application/json", is_json=end == "succeeded")
                workers.succeed(claim, result, call_seconds=None)
