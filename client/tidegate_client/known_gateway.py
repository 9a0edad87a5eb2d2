"""What can be asked of a gateway, and how; without any I/O."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit
from uuid import uuid4

from tidegate_client.batch import MOST_JOBS, Taken, submit_all, submit_each
from tidegate_client.errors import AnyJob, Refused, SomeRefused
from tidegate_client.many import Action, Counts, act_on, selection_of
from tidegate_client.protocol import Call, Gateway, Steps, told_in_answer
from tidegate_client.snapshot import Snapshot

_OF_OPERATION = ("name", "downstream", "timeout", "backlog")
_OF_DOWNSTREAM = (
    *("name", "rate", "concurrency", "paused", "breaker_open", "resting_until"),
    *("backlog", "in_flight", "released", "changed"),
)
Query = Mapping[str, str]


class KnownGateway:
    """What `Client` and `AsyncClient` have in common: the gateway's address, and the conversations with it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @property
    def url(self) -> str:
        """The gateway's address."""
        return self._gateway.url

    @property
    def patience(self) -> float:
        """Seconds that a request is tried again; may be set."""
        return self._gateway.patience

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._gateway.patience = seconds

    def _submitted(self, call: Call) -> Steps[Snapshot]:
        return (yield from told_in_answer(self._gateway, call, Snapshot.of))

    def _many_submitted(
        self, operation: str, inputs: Iterable[Any], timeout: float | None, *, all_or_none: bool
    ) -> Steps[Taken]:
        each = list(inputs)
        is_raw = any(isinstance(params, bytes) for params in each)
        if all_or_none and (is_raw or len(each) > MOST_JOBS):
            raise ValueError(f"all_or_none takes at most {MOST_JOBS} inputs, and no bytes")
        if is_raw:
            return (yield from self._one_by_one(operation, each, timeout))
        items: list[dict[str, Any]] = [{"input": params, "idempotency_key": uuid4().hex} for params in each]
        if timeout is not None:
            for item in items:
                item["timeout"] = math.ceil(timeout)
        submit = submit_all if all_or_none else submit_each
        return (yield from submit(self._gateway, f"{_operation(operation)}/jobs/batch", items))

    def _one_by_one(self, operation: str, inputs: Sequence[Any], timeout: float | None) -> Steps[Taken]:
        jobs: dict[int, Snapshot] = {}
        refusals: dict[int, Refused] = {}
        for index, params in enumerate(inputs):
            try:
                jobs[index] = yield from self._submitted(submission(operation, params, timeout=timeout))
            except Refused as refusal:
                refusals[index] = refusal
        return Taken(jobs=jobs, refusals=refusals)

    def _found(self, job_id: str) -> Steps[Snapshot]:
        call = Call(method="GET", path=f"/v1/jobs/{quote(job_id, safe='')}")
        return (yield from told_in_answer(self._gateway, call, Snapshot.of))

    def _page(self, query: Query) -> Steps[tuple[list[Snapshot], Query | None]]:
        """A page of jobs, and what to ask for to get the next one."""
        call = Call(method="GET", path="/v1/jobs", params=query)
        found, after = yield from told_in_answer(self._gateway, call, _jobs_of_page)
        # Only its query: the link may lead through another address than ours, and the key stays with ours.
        return found, dict(parse_qsl(urlsplit(after).query)) if after else None

    def _act(self, action: Action, selection: Mapping[str, Any]) -> Steps[Counts]:
        return (yield from act_on(self._gateway, action, selection_of(selection)))

    def _operations(self) -> Steps[list[Mapping[str, Any]]]:
        call = Call(method="GET", path="/v1/operations")
        return (yield from told_in_answer(self._gateway, call, _every("operations", _operation_of)))

    def _operation(self, name: str) -> Steps[Mapping[str, Any]]:
        return (yield from told_in_answer(self._gateway, Call(method="GET", path=_operation(name)), _operation_of))

    def _downstreams(self) -> Steps[list[Mapping[str, Any]]]:
        call = Call(method="GET", path="/v1/downstreams")
        return (yield from told_in_answer(self._gateway, call, _every("downstreams", _downstream_of)))

    def _downstream(self, name: str) -> Steps[Mapping[str, Any]]:
        return (yield from told_in_answer(self._gateway, Call(method="GET", path=_downstream(name)), _downstream_of))

    def _downstream_changed(self, name: str, changes: Mapping[str, Any]) -> Steps[Mapping[str, Any]]:
        headers = {"Content-Type": "application/merge-patch+json"}
        call = Call(method="PATCH", path=_downstream(name), content=json.dumps(changes).encode(), headers=headers)
        return (yield from told_in_answer(self._gateway, call, _downstream_of))


def submission(
    operation: str,
    params: Any,
    *,
    content_type: str | None = None,
    timeout: float | None = None,
    not_before: datetime | None = None,
    idempotency_key: str | None = None,
    webhook_url: str | None = None,
    traceparent: str | None = None,
) -> Call:
    """The request that submits a job. Raises ValueError for an instant without a time zone."""
    headers = {"Idempotency-Key": idempotency_key or uuid4().hex}
    if isinstance(params, bytes):
        content = params
        if content_type is None:
            content_type = "application/octet-stream"
    else:
        content = json.dumps(params, allow_nan=False).encode()
        content_type = content_type or "application/json"
    if content_type:
        headers["Content-Type"] = content_type
    if timeout is not None:
        headers["Job-Timeout"] = str(math.ceil(timeout))
    if not_before is not None:
        if not_before.tzinfo is None:
            raise ValueError("not_before needs a time zone")
        headers["Job-Not-Before"] = not_before.isoformat()
    if webhook_url is not None:
        headers["Webhook-Url"] = webhook_url
    if traceparent is not None:
        headers["traceparent"] = traceparent
    return Call(method="POST", path=f"{_operation(operation)}/jobs", content=content, headers=headers)


def first_page(filters: Mapping[str, Any]) -> Query:
    """What to ask for to get the first page. Raises ValueError for an instant without a time zone."""
    return {**selection_of(filters), "limit": "100"}


def jobs_of(taken: Taken, job: Callable[[Snapshot], AnyJob]) -> list[AnyJob]:
    """Those that were taken, in their order; raises SomeRefused unless all were."""
    jobs = {index: job(seen) for index, seen in taken.jobs.items()}
    if taken.refusals:
        raise SomeRefused(jobs, taken.refusals)
    return list(jobs.values())


def _operation(name: str) -> str:
    return f"/v1/operations/{quote(name, safe='')}"


def _downstream(name: str) -> str:
    return f"/v1/downstreams/{quote(name, safe='')}"


def _jobs_of_page(document: Any) -> tuple[list[Snapshot], str | None]:
    return [Snapshot.of(each) for each in document["jobs"]], document["next"]


def _every(member: str, read: Callable[[Any], Mapping[str, Any]]) -> Callable[[Any], list[Mapping[str, Any]]]:
    return lambda document: [read(each) for each in document[member]]


def _operation_of(document: Any) -> Mapping[str, Any]:
    return _with(_OF_OPERATION, document)


def _downstream_of(document: Any) -> Mapping[str, Any]:
    return _with(_OF_DOWNSTREAM, document)


def _with(members: Iterable[str], document: Any) -> Mapping[str, Any]:
    """The document; raises LookupError when it has not all of the members, as one of another server has not."""
    for member in members:
        document[member]
    found: Mapping[str, Any] = document
    return found
