"""The gateway as a Python program uses it."""

import json
import math
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlsplit
from uuid import uuid4

from tidegate_client.batch import MOST_JOBS, submit_all, submit_each
from tidegate_client.errors import Refused, SomeRefused
from tidegate_client.job import Job, snapshot_of
from tidegate_client.many import Counts, act_on, selection_of
from tidegate_client.snapshot import Snapshot, State
from tidegate_client.transport import Told, Transport, told_by

_OF_OPERATION = ("name", "downstream", "timeout", "backlog")
_OF_DOWNSTREAM = (
    *("name", "rate", "concurrency", "paused", "breaker_open", "resting_until"),
    *("backlog", "in_flight", "released", "changed"),
)


class Client:
    """A gateway at `url`, asked with an API `key` if it wants one. Safe to use from many threads; a context manager.

    `timeout`: seconds that one answer may take. `patience`: seconds that a request is tried again, after connection
    errors, 429 and passing 5xx, before the last failure is raised. `verify`: as httpx2 has it.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        *,
        timeout: float = 30.0,
        patience: float = 30.0,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._transport = Transport(url, key, timeout=timeout, patience=patience, verify=verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._transport.close()

    @property
    def url(self) -> str:
        """The gateway's address."""
        return self._transport.url

    @property
    def patience(self) -> float:
        """Seconds that a request is tried again; may be set."""
        return self._transport.patience

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._transport.patience = seconds

    def submit(
        self,
        operation: str,
        params: Any,
        *,
        content_type: str | None = None,
        timeout: float | None = None,
        not_before: datetime | None = None,
        idempotency_key: str | None = None,
        webhook_url: str | None = None,
        traceparent: str | None = None,
    ) -> Job:
        """Submits a job and returns it as soon as it is recorded.

        `params`: bytes go as they are, under `content_type`; anything else as JSON. `timeout`: seconds until the job's
        deadline, if less than the operation's own. `not_before`: an aware instant before which it does not start.
        `idempotency_key`: the same key and params give the same job; without one a new key is made and kept over this
        call's retries, so that no lost answer makes a second job. Raises Refused when it is not taken.
        """
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
        answer = self._transport.send("POST", f"{_operation(operation)}/jobs", content=content, headers=headers)
        return Job(self._transport, snapshot_of(answer))

    def submit_many(
        self, operation: str, inputs: Iterable[Any], *, timeout: float | None = None, all_or_none: bool = False
    ) -> list[Job]:
        """Submits a job for each input, in their order; up to 1,000 in one request, inputs that are bytes one by one.

        Each gets an idempotency key of its own. `all_or_none`: one refusal refuses all, for at most 1,000 JSON inputs.
        Raises SomeRefused, which has those that were taken too; with `all_or_none` Refused.
        """
        each = list(inputs)
        is_raw = any(isinstance(params, bytes) for params in each)
        if all_or_none and (is_raw or len(each) > MOST_JOBS):
            raise ValueError(f"all_or_none takes at most {MOST_JOBS} inputs, and no bytes")
        if is_raw:
            return self._submit_each(operation, each, timeout)
        items: list[dict[str, Any]] = [{"input": params, "idempotency_key": uuid4().hex} for params in each]
        if timeout is not None:
            for item in items:
                item["timeout"] = math.ceil(timeout)
        submit = submit_all if all_or_none else submit_each
        return submit(self._transport, f"{_operation(operation)}/jobs/batch", items)

    def _submit_each(self, operation: str, inputs: Sequence[Any], timeout: float | None) -> list[Job]:
        jobs: dict[int, Job] = {}
        refusals: dict[int, Refused] = {}
        for index, params in enumerate(inputs):
            try:
                jobs[index] = self.submit(operation, params, timeout=timeout)
            except Refused as refusal:
                refusals[index] = refusal
        if refusals:
            raise SomeRefused(jobs, refusals)
        return list(jobs.values())

    def job(self, job_id: str) -> Job:
        """The job with this id, looked at once. Raises Refused (404) when there is none of this client."""
        answer = self._transport.send("GET", f"/v1/jobs/{quote(job_id, safe='')}")
        return Job(self._transport, snapshot_of(answer))

    def jobs(
        self,
        *,
        state: State | str | None = None,
        operation: str | None = None,
        downstream: str | None = None,
        error_code: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        client: str | None = None,
    ) -> Iterator[Job]:
        """The jobs for which all of this holds, newest first, fetched page by page as they are asked for.

        Without their results. `created_after`: at this aware instant or later, `created_before`: earlier than this.
        They are this client's own; an operator's key has everybody's, and those of one `client` by its id.
        """
        filters = {
            "state": state,
            "operation": operation,
            "downstream": downstream,
            "error_code": error_code,
            "created_after": created_after,
            "created_before": created_before,
            "client": client,
        }
        return self._pages({**selection_of(filters), "limit": "100"})

    def _pages(self, query: Mapping[str, str]) -> Iterator[Job]:
        while True:
            found, after = self._get("/v1/jobs", _page, query)
            for seen in found:
                yield Job(self._transport, seen)
            if not after:
                return
            # Only its query: the link may lead through another address than ours, and the key stays with ours.
            query = dict(parse_qsl(urlsplit(after).query))

    def cancel_jobs(self, *, all: bool = False, dry_run: bool = False, **filters: Any) -> Counts:  # noqa: A002 - as in the API
        """Cancels every job that the filters mean, those of `jobs`; without one only with `all`.

        Needs an operator's key."""
        return act_on(self._transport, "cancel", selection_of({**filters, "all": all, "dry_run": dry_run}))

    def retry_jobs(self, *, all: bool = False, dry_run: bool = False, **filters: Any) -> Counts:  # noqa: A002 - as in the API
        """Submits every job that ended without a result and that the filters mean again, each once.

        Filters as for `cancel_jobs`. Needs an operator's key."""
        return act_on(self._transport, "retry", selection_of({**filters, "all": all, "dry_run": dry_run}))

    def operations(self) -> list[Mapping[str, Any]]:
        """What there is to submit to: name, input schema, timeout, retry policy, backlog, expected wait."""
        return self._get("/v1/operations", lambda page: [_operation_of(each) for each in page["operations"]])

    def operation(self, name: str) -> Mapping[str, Any]:
        """One of `operations`."""
        return self._get(_operation(name), _operation_of)

    def downstreams(self) -> list[Mapping[str, Any]]:
        """What each downstream may get and gets. Needs an operator's key."""
        return self._get("/v1/downstreams", lambda page: [_downstream_of(each) for each in page["downstreams"]])

    def downstream(self, name: str) -> Mapping[str, Any]:
        """One of `downstreams`."""
        return self._get(_downstream(name), _downstream_of)

    def change_downstream(self, name: str, **changes: Any) -> Mapping[str, Any]:
        """Changes `rate`, `burst`, `concurrency`, `breaker` or `paused`, live, and returns the downstream.

        None takes an earlier change back to what the operations file says. Needs an operator's key.
        """
        headers = {"Content-Type": "application/merge-patch+json"}
        answer = self._transport.send("PATCH", _downstream(name), content=json.dumps(changes).encode(), headers=headers)
        return told_by(answer, _downstream_of)

    def _get(self, path: str, read: Callable[[Any], Told], params: Mapping[str, str] | None = None) -> Told:
        return told_by(self._transport.send("GET", path, params=params), read)


def _operation(name: str) -> str:
    return f"/v1/operations/{quote(name, safe='')}"


def _downstream(name: str) -> str:
    return f"/v1/downstreams/{quote(name, safe='')}"


def _page(document: Any) -> tuple[list[Snapshot], str | None]:
    return [Snapshot.of(each) for each in document["jobs"]], document["next"]


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
