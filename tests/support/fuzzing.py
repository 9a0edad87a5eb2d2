"""schemathesis over the application: what it finds, in words, and a hand that moves the jobs meanwhile."""

import itertools
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import schemathesis
from schemathesis import BaseSchema, Case, GenerationMode, HookContext, hooks
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from tests.support.web import LEASE, Web
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.dispatch.gate import Gate
from tidegate.operations.outcome import Succeeded

_ENDS = ["expired", "succeeded", "failed", "running", "cancelled", "succeeded as bytes"]
# What a schema can't tell of a request: that an instant lies ahead, that a bulk submit's inputs are its operation's.
_REFUSED_BY_DESIGN = {
    "submitBulk": [400, 410, 415, 422],
    "submitBatch": [400, 410, 415, 422],
    "readJob": [410],
    "readResult": [410],
    # A rate by the calendar whose time zone there is not, and a client that there is not.
    "changeDownstream": [422],
    "changePartition": [400, 422],
}

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
    web.app.extensions["tidegate"].watcher.stop()  # a stream ends with its first event: nothing happens beside a call
    schema = schemathesis.openapi.from_wsgi("/openapi.json", web.app, config=config)
    client = web.app.extensions["tidegate"].authenticator.caller(secret).client_id if secret else IMPLICIT_CLIENT
    help_out = _Help(web, client)
    faults: dict[str, None] = {}
    statuses: set[int] = set()
    for event in _events(schema, help_out):
        if isinstance(event, events.NonFatalError):
            faults[f"{event.label}: {event.value}"] = None
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            faults |= dict.fromkeys(_told(event))
            answers = [each.response for each in event.recorder.interactions.values()]
            statuses |= {answer.status_code for answer in answers if answer is not None}
    return list(faults), statuses


def _events(schema: BaseSchema, help_out: "_Help") -> Iterator[events.EngineEvent]:
    def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
        help_out.make_possible(case)

    schemathesis.hook(before_call)
    try:
        yield from from_schema(schema).execute()
    finally:
        hooks.unregister(before_call)


def _told(event: events.ScenarioFinished) -> list[str]:
    failed = [check.failure_info for checks in event.recorder.checks.values() for check in checks]
    return [
        f"{each.failure.operation}: {each.failure}\n{each.code_sample}"
        for each in failed
        if each is not None and _UNKNOWN_HEADER not in str(each.failure)
    ]


class _Help:
    """Makes data that should be taken such that it can be: what a schema can't tell."""

    def __init__(self, web: Web, client_id: str) -> None:
        self._secrets = web.app.extensions["tidegate"].secrets
        self._client_id = client_id

    def make_possible(self, case: Case[Any]) -> None:
        """A new key, an instant before the deadline, a period that has one, a public host and a secret to sign with."""
        if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
            return
        for given in (case.query, case.body):
            if isinstance(given, dict) and given.get("created_after") and given.get("created_before"):
                given |= {"created_after": "2024-01-01T00:00:00Z", "created_before": "2999-01-01T00:00:00+01:00"}
        if "Idempotency-Key" in case.headers:
            case.headers["Idempotency-Key"] = str(uuid.uuid4())
        if "Job-Not-Before" in case.headers:
            case.headers["Job-Not-Before"] = "Mon, 01 Jan 2024 00:00:00 GMT"
        if "Webhook-Url" in case.headers:
            case.headers["Webhook-Url"] = f"https://hooks.example/{uuid.uuid4()}"
            if not self._secrets.signing(self._client_id):
                self._secrets.rotate(self._client_id, overlap=timedelta(0))


class _Hand:
    """In place of scheduler and workers: at every third call it lets go what may, and ends it in turn in each way."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._calls = itertools.count()
        self._ends = itertools.cycle(_ENDS)
        store = web.store
        store.limits.declare(web.app.extensions["tidegate"].registry.downstreams.values())
        for queue in ("io", "cpu"):
            store.heartbeats.beat(f"{queue}-1", queue=queue, size=1000, until=LEASE)
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
            claim = self._web.store.claims.claim(
                job.job_id, job.fence, worker="io-1", pid=1, lease=LEASE, attempt_timeouts={}
            )
            if claim is None or end == "running":
                continue
            if end == "failed":
                workers.fail(claim, {"code": "operation_error", "message": "it failed"}, call_seconds=None)
            else:
                result = Succeeded(content=b"[1]", content_type="application/json", is_json=end == "succeeded")
                workers.succeed(claim, result, call_seconds=None)
