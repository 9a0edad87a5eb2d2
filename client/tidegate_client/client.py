"""The gateway as a Python program uses it."""

import math
import ssl
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, Unpack

from tidegate_client.documents import (
    DELIVERY,
    DOWNSTREAM,
    NEW_WEBHOOK_SECRET,
    OPERATION,
    PARTITION,
    SCALE,
    WEBHOOK_SECRET,
    Changes,
    Delivery,
    Downstream,
    EventName,
    NewWebhookSecret,
    Operation,
    Partition,
    PartitionChanges,
    QueueScale,
    WebhookSecret,
)
from tidegate_client.events import EventFeed, JobEvent
from tidegate_client.job import Job
from tidegate_client.known_gateway import Asked, KnownGateway, Query, first_page, jobs_of, path_of, submission
from tidegate_client.many import Counts, Filters, selection_of
from tidegate_client.protocol import Gateway, Told
from tidegate_client.snapshot import Snapshot, State
from tidegate_client.transport import Transport


class Client(KnownGateway):
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
        super().__init__(Gateway(url=url, timeout=timeout, patience=patience))
        self._transport = Transport(self._gateway, key, verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._transport.close()

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
        partition: str | None = None,
        priority: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Job:
        """Submits a job and returns it as soon as it is recorded.

        `params`: bytes go as they are, under `content_type`; anything else as JSON. `timeout`: seconds until the job's
        deadline, if less than the operation's own. `not_before`: an aware instant before which it does not start.
        `idempotency_key`: the same key and params give the same job; without one a new key is made and kept over this
        call's retries, so that no lost answer makes a second job. `partition`: in whose name it waits, `priority`: its
        place among those, 0 (first) to 7, where the downstream has partitions. `headers`: for an operation that passes
        them on to its downstream (`pass_headers`). Raises Refused when it is not taken.
        """
        call = submission(
            operation,
            params,
            content_type=content_type,
            timeout=timeout,
            not_before=not_before,
            idempotency_key=idempotency_key,
            webhook_url=webhook_url,
            traceparent=traceparent,
            partition=partition,
            priority=priority,
            headers=headers,
        )
        return self._job(self._transport.run(self._submitted(call)))

    def submit_many(
        self,
        operation: str,
        inputs: Iterable[Any],
        *,
        timeout: float | None = None,
        partition: str | None = None,
        priority: int | None = None,
        all_or_none: bool = False,
    ) -> list[Job]:
        """Submits a job for each input, in their order; up to 1,000 in one request, inputs that are bytes one by one.

        Each gets an idempotency key of its own, and this `timeout`, `partition` and `priority`. `all_or_none`: one
        refusal refuses all, for at most 1,000 JSON inputs.
        Raises SomeRefused, which has those that were taken too; with `all_or_none` Refused.
        """
        asked = Asked(timeout=timeout, partition=partition, priority=priority)
        taken = self._transport.run(self._many_submitted(operation, inputs, asked, all_or_none=all_or_none))
        return jobs_of(taken, self._job)

    def job(self, job_id: str) -> Job:
        """The job with this id, looked at once. Raises Refused (404) when there is none of this client."""
        return self._job(self._transport.run(self._told(path_of("jobs", job_id), Snapshot.of)))

    def events(self, job: Job | str) -> Generator[JobEvent]:
        """The changes of a job or of the job with this id, as they happen; as `Job.events`."""
        if isinstance(job, Job):
            return job.events()
        return self._transport.each(EventFeed(self._gateway, job))

    def jobs(
        self,
        *,
        state: State | str | None = None,
        operation: str | None = None,
        downstream: str | None = None,
        partition: str | None = None,
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
            "partition": partition,
            "error_code": error_code,
            "created_after": created_after,
            "created_before": created_before,
            "client": client,
        }
        return self._pages("jobs", self._job_of, first_page(filters))

    def cancel_jobs(self, *, all: bool = False, dry_run: bool = False, **filters: Unpack[Filters]) -> Counts:  # noqa: A002 - as in the API
        """Cancels every job that the filters mean, those of `jobs`; without one only with `all`.

        Needs an operator's key."""
        return self._transport.run(self._act("cancel", {**filters, "all": all, "dry_run": dry_run}))

    def retry_jobs(self, *, all: bool = False, dry_run: bool = False, **filters: Unpack[Filters]) -> Counts:  # noqa: A002 - as in the API
        """Submits every job that ended without a result and that the filters mean again, each once.

        Filters as for `cancel_jobs`. Needs an operator's key."""
        return self._transport.run(self._act("retry", {**filters, "all": all, "dry_run": dry_run}))

    def operations(self) -> list[Operation]:
        """What there is to submit to: name, input schema, timeout, retry policy, backlog, expected wait."""
        return self._transport.run(self._all_told("/v1/operations", "operations", OPERATION))

    def operation(self, name: str) -> Operation:
        """One of `operations`."""
        return self._transport.run(self._told(path_of("operations", name), OPERATION))

    def downstreams(self) -> list[Downstream]:
        """What each downstream may get and gets. Needs an operator's key."""
        return self._transport.run(self._all_told("/v1/downstreams", "downstreams", DOWNSTREAM))

    def downstream(self, name: str) -> Downstream:
        """One of `downstreams`."""
        return self._transport.run(self._told(path_of("downstreams", name), DOWNSTREAM))

    def change_downstream(self, name: str, **changes: Unpack[Changes]) -> Downstream:
        """Changes `rate`, `burst`, `concurrency`, `breaker` or `paused`, live, and returns the downstream.

        None takes an earlier change back to what the operations file says. Needs an operator's key.
        """
        path, content_type = path_of("downstreams", name), "application/merge-patch+json"
        return self._transport.run(self._changed("PATCH", path, changes, DOWNSTREAM, content_type))

    def partitions(
        self, downstream: str, *, sort: Literal["waiting", "name"] = "waiting", client: str | None = None
    ) -> Iterator[Partition]:
        """The partitions of a downstream, those with the most waiting jobs first, fetched page by page.

        Of all clients, or of this one by its id. Needs an operator's key.
        """
        path = path_of("downstreams", downstream, "partitions").removeprefix("/v1/")
        return self._pages(path, PARTITION, first_page({"sort": sort, "client": client}), member="partitions")

    def change_partition(
        self,
        downstream: str,
        name: str | None = None,
        *,
        client: str | None = None,
        **changes: Unpack[PartitionChanges],
    ) -> Partition:
        """Changes `weight`, `rate`, `burst`, `concurrency` or `paused` of a partition, live, and returns it.

        Without a `client`, by its id, that of all clients. Without a name the client's unnamed one, and the client's
        own weight. None takes an earlier change back. Needs an operator's key.
        """
        return self._transport.run(self._partition_changed(downstream, name, client, changes))

    def scale(self) -> dict[str, QueueScale]:
        """How many workers each queue has and could use now, by its name. Needs an operator's or a metrics key."""
        return self._transport.run(self._told("/v1/scale", SCALE))

    def deliveries(self, *, state: str | None = None, event: EventName | None = None) -> Iterator[Delivery]:
        """What was sent to webhooks and how that went, of the newest job first, fetched page by page.

        `state`: waiting, pending, delivered or failed. Own ones; an operator's key has everybody's.
        """
        return self._pages("deliveries", DELIVERY, first_page({"state": state, "event": event}))

    def delivery(self, job_id: str) -> Delivery:
        """The delivery of one job's end. Raises Refused (404) for a job without a webhook."""
        return self._transport.run(self._told(path_of("deliveries", job_id), DELIVERY))

    def send_delivery(self, job_id: str) -> Delivery:
        """Sends it again, whatever became of it; for a day, until it is taken. Raises Refused (409) before the end."""
        return self._transport.run(self._changed("POST", path_of("deliveries", job_id, "send"), {}, DELIVERY))

    def send_deliveries(
        self,
        *,
        state: str = "failed",
        event: EventName | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        client: str | None = None,
        limit: int = 1000,
    ) -> int:
        """Sends those again for which all of this holds, `limit` of them at the most, and returns how many.

        As many as `limit`: there may be more. `created_after` and `created_before` are about when the job ended. Those
        of one `client`, by its id, need an operator's key.
        """
        filters = {"state": state, "event": event, "created_after": created_after, "created_before": created_before}
        chosen = {**selection_of({**filters, "client_id": client}), "limit": limit}
        return self._transport.run(
            self._changed("POST", "/v1/deliveries/send", chosen, lambda told: int(told["sent_again"]))
        )

    def webhook_secrets(self) -> list[WebhookSecret]:
        """The secrets that sign webhooks now, without their text, newest first."""
        return self._transport.run(self._all_told("/v1/webhook-secrets", "secrets", WEBHOOK_SECRET))

    def new_webhook_secret(self, *, overlap: float | None = None) -> NewWebhookSecret:
        """Makes a secret, whose text is shown this once. The one before it signs beside it for `overlap` seconds.

        None: for a day. When a lost answer was asked for again, `webhook_secrets` has one more, which signs as long.
        """
        rotation = {} if overlap is None else {"overlap": math.ceil(overlap)}
        return self._transport.run(self._changed("POST", "/v1/webhook-secrets", rotation, NEW_WEBHOOK_SECRET))

    def end_webhook_secret(self, secret_id: str) -> None:
        """Ends a secret at once, as when it became known."""
        self._transport.run(self._secret_ended(secret_id))

    def _pages(
        self, name: str, read: Callable[[Any], Told], query: Query | None, member: str | None = None
    ) -> Iterator[Told]:
        while query:
            found, query = self._transport.run(self._page(f"/v1/{name}", member or name, read, query))
            yield from found

    def _job(self, seen: Snapshot) -> Job:
        return Job(self._transport, seen)

    def _job_of(self, document: Any) -> Job:
        return self._job(Snapshot.of(document))
