"""The gateway as a Python program uses it."""

import ssl
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from tidegate_client.events import EventFeed, JobEvent
from tidegate_client.job import Job
from tidegate_client.known_gateway import KnownGateway, Query, first_page, jobs_of, submission
from tidegate_client.many import Counts
from tidegate_client.protocol import Gateway
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
    ) -> Job:
        """Submits a job and returns it as soon as it is recorded.

        `params`: bytes go as they are, under `content_type`; anything else as JSON. `timeout`: seconds until the job's
        deadline, if less than the operation's own. `not_before`: an aware instant before which it does not start.
        `idempotency_key`: the same key and params give the same job; without one a new key is made and kept over this
        call's retries, so that no lost answer makes a second job. Raises Refused when it is not taken.
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
        )
        return self._job(self._transport.run(self._submitted(call)))

    def submit_many(
        self, operation: str, inputs: Iterable[Any], *, timeout: float | None = None, all_or_none: bool = False
    ) -> list[Job]:
        """Submits a job for each input, in their order; up to 1,000 in one request, inputs that are bytes one by one.

        Each gets an idempotency key of its own. `all_or_none`: one refusal refuses all, for at most 1,000 JSON inputs.
        Raises SomeRefused, which has those that were taken too; with `all_or_none` Refused.
        """
        taken = self._transport.run(self._many_submitted(operation, inputs, timeout, all_or_none=all_or_none))
        return jobs_of(taken, self._job)

    def job(self, job_id: str) -> Job:
        """The job with this id, looked at once. Raises Refused (404) when there is none of this client."""
        return self._job(self._transport.run(self._found(job_id)))

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
        return self._pages(first_page(filters))

    def _pages(self, query: Query | None) -> Iterator[Job]:
        while query:
            found, query = self._transport.run(self._page(query))
            for seen in found:
                yield self._job(seen)

    def cancel_jobs(self, *, all: bool = False, dry_run: bool = False, **filters: Any) -> Counts:  # noqa: A002 - as in the API
        """Cancels every job that the filters mean, those of `jobs`; without one only with `all`.

        Needs an operator's key."""
        return self._transport.run(self._act("cancel", {**filters, "all": all, "dry_run": dry_run}))

    def retry_jobs(self, *, all: bool = False, dry_run: bool = False, **filters: Any) -> Counts:  # noqa: A002 - as in the API
        """Submits every job that ended without a result and that the filters mean again, each once.

        Filters as for `cancel_jobs`. Needs an operator's key."""
        return self._transport.run(self._act("retry", {**filters, "all": all, "dry_run": dry_run}))

    def operations(self) -> list[Mapping[str, Any]]:
        """What there is to submit to: name, input schema, timeout, retry policy, backlog, expected wait."""
        return self._transport.run(self._operations())

    def operation(self, name: str) -> Mapping[str, Any]:
        """One of `operations`."""
        return self._transport.run(self._operation(name))

    def downstreams(self) -> list[Mapping[str, Any]]:
        """What each downstream may get and gets. Needs an operator's key."""
        return self._transport.run(self._downstreams())

    def downstream(self, name: str) -> Mapping[str, Any]:
        """One of `downstreams`."""
        return self._transport.run(self._downstream(name))

    def change_downstream(self, name: str, **changes: Any) -> Mapping[str, Any]:
        """Changes `rate`, `burst`, `concurrency`, `breaker` or `paused`, live, and returns the downstream.

        None takes an earlier change back to what the operations file says. Needs an operator's key.
        """
        return self._transport.run(self._downstream_changed(name, changes))

    def _job(self, seen: Snapshot) -> Job:
        return Job(self._transport, seen)
