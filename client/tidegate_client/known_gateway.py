"""What can be asked of a gateway, and how; without any I/O."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict
from urllib.parse import parse_qsl, quote, urlsplit
from uuid import uuid4

from tidegate_client.bulk import MOST_JOBS, Taken, submit_all, submit_each
from tidegate_client.documents import PARTITION, Partition
from tidegate_client.errors import AnyJob, Refused, SomeRefused
from tidegate_client.many import Action, Counts, act_on, selection_of
from tidegate_client.protocol import Call, Gateway, Steps, Told, answer_to, told_in_answer
from tidegate_client.snapshot import Snapshot
from tidegate_client.writing import Written, as_json

Query = Mapping[str, str]


class Asked(TypedDict):
    """What is asked for each of many jobs alike, as `Client.submit` has it."""

    timeout: float | None
    partition: str | None
    priority: int | None


_OUR_HEADERS = frozenset(
    {
        *("authorization", "content-type", "content-length", "host", "idempotency-key", "prefer", "traceparent"),
        *("job-timeout", "job-not-before", "job-partition", "job-priority", "webhook-url"),
    }
)


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
        self, operation: str, inputs: Iterable[Any], asked: Asked, *, all_or_none: bool
    ) -> Steps[Taken]:
        each = list(inputs)
        written = [_written(params, f"input {index}") for index, params in enumerate(each)]
        # The gateway reads the numbers of a bulk submit as floats, and takes no bytes in one.
        is_alone = not all(one.is_of_floats for one in written)
        if all_or_none and (is_alone or len(each) > MOST_JOBS):
            raise ValueError(f"all_or_none takes at most {MOST_JOBS} inputs, no bytes and no Decimal beyond a float")
        if is_alone:
            return (yield from self._one_by_one(operation, each, asked))
        lines = {
            index: b'{"input": %s, %s' % (params.content, json.dumps(_envelope(asked)).encode()[1:])
            for index, params in enumerate(written)
        }
        submit = submit_all if all_or_none else submit_each
        return (yield from submit(self._gateway, path_of("operations", operation, "jobs", "bulk"), lines))

    def _one_by_one(self, operation: str, inputs: Sequence[Any], asked: Asked) -> Steps[Taken]:
        jobs: dict[int, Snapshot] = {}
        refusals: dict[int, Refused] = {}
        for index, params in enumerate(inputs):
            try:
                jobs[index] = yield from self._submitted(submission(operation, params, **asked))
            except Refused as refusal:
                refusals[index] = refusal
        return Taken(jobs=jobs, refusals=refusals)

    def _page(
        self, path: str, member: str, read: Callable[[Any], Told], query: Query
    ) -> Steps[tuple[list[Told], Query | None]]:
        """A page of a list, and what to ask for to get the next one."""
        found, after = yield from self._told(path, lambda page: (_every(read, page[member]), page["next"]), query)
        # Only its query: the link may lead through another address than ours, and the key stays with ours.
        return found, dict(parse_qsl(urlsplit(after).query, keep_blank_values=True)) if after else None

    def _act(self, action: Action, selection: Mapping[str, Any]) -> Steps[Counts]:
        return (yield from act_on(self._gateway, action, selection_of(selection)))

    def _told(self, path: str, read: Callable[[Any], Told], query: Query | None = None) -> Steps[Told]:
        call = Call(method="GET", path=path, params=query)
        return (yield from told_in_answer(self._gateway, call, read))

    def _all_told(self, path: str, member: str, read: Callable[[Any], Told]) -> Steps[list[Told]]:
        return (yield from self._told(path, lambda document: _every(read, document[member])))

    def _changed(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any],
        read: Callable[[Any], Told],
        content_type: str = "application/json",
        *,
        query: Query | None = None,
    ) -> Steps[Told]:
        content, headers = json.dumps(document).encode(), {"Content-Type": content_type}
        call = Call(method=method, path=path, content=content, headers=headers, params=query)
        return (yield from told_in_answer(self._gateway, call, read))

    def _partition_changed(
        self, downstream: str, name: str | None, client: str | None, changes: Mapping[str, Any]
    ) -> Steps[Partition]:
        which = {"name": name or "", **({} if client is None else {"client": client})}
        path, content_type = path_of("downstreams", downstream, "partitions"), "application/merge-patch+json"
        return (yield from self._changed("PATCH", path, changes, PARTITION, content_type, query=which))

    def _secret_ended(self, secret_id: str) -> Steps[None]:
        try:
            yield from answer_to(self._gateway, Call(method="DELETE", path=path_of("webhook-secrets", secret_id)))
        except Refused as refusal:
            if refusal.kind != "unknown-secret":  # ended already: by an earlier try whose answer was lost
                raise


def path_of(*parts: str) -> str:
    """The path of one thing of the API, by its id or name."""
    return "/".join(("/v1", *(quote(part, safe="") for part in parts)))


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
    partition: str | None = None,
    priority: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Call:
    """The request that submits a job.

    Raises TypeError for what can't be sent; ValueError for an instant without a time zone, and for a header that has
    a parameter of its own.
    """
    own = {"Idempotency-Key": idempotency_key or uuid4().hex}
    content = _written(params, "the input").content
    if not isinstance(params, bytes):
        content_type = content_type or "application/json"
    elif content_type is None:
        content_type = "application/octet-stream"
    if content_type:
        own["Content-Type"] = content_type
    if timeout is not None:
        own["Job-Timeout"] = str(math.ceil(timeout))
    if not_before is not None:
        if not_before.tzinfo is None:
            raise ValueError("not_before needs a time zone")
        own["Job-Not-Before"] = not_before.isoformat()
    if webhook_url is not None:
        own["Webhook-Url"] = webhook_url
    if traceparent is not None:
        own["traceparent"] = traceparent
    if partition is not None:
        own["Job-Partition"] = partition
    if priority is not None:
        own["Job-Priority"] = str(priority)
    return Call(
        method="POST",
        path=path_of("operations", operation, "jobs"),
        content=content,
        headers={**_passed_on(headers or {}), **own},
    )


def first_page(filters: Mapping[str, Any]) -> Query:
    """What to ask for to get the first page. Raises ValueError for an instant without a time zone."""
    return {**selection_of(filters), "limit": "100"}


def jobs_of(taken: Taken, job: Callable[[Snapshot], AnyJob]) -> list[AnyJob]:
    """Those that were taken, in their order; raises SomeRefused unless all were."""
    jobs = {index: job(seen) for index, seen in taken.jobs.items()}
    if taken.refusals:
        raise SomeRefused(jobs, taken.refusals)
    return list(jobs.values())


def _every(read: Callable[[Any], Told], documents: Iterable[Any]) -> list[Told]:
    return [read(each) for each in documents]


def _written(params: Any, name: str) -> Written:
    """An input as it is sent: bytes as they are, anything else as JSON."""
    return Written(content=params, is_of_floats=False) if isinstance(params, bytes) else as_json(params, name)


def _envelope(asked: Asked) -> Mapping[str, Any]:
    """What goes along with one input of many."""
    timeout = asked["timeout"]
    seconds = None if timeout is None else math.ceil(timeout)
    given = {"idempotency_key": uuid4().hex, **asked, "timeout": seconds}
    return {name: value for name, value in given.items() if value is not None}


def _passed_on(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Headers for the downstream; raises ValueError for one that the client writes itself."""
    for name in headers:
        if name.lower() in _OUR_HEADERS:
            raise ValueError(f"{name} is no header to be passed on; the client writes it itself")
    return headers
