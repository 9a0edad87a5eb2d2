"""A filter of jobs by client, state, operation, error and time, and a page of the jobs that fit it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from tidegate.jobs.job import Job
from tidegate.operations.outcome import ErrorCode
from tidegate.states import State


@dataclass(frozen=True, kw_only=True)
class Filter:
    """A filter of jobs; None: any.

    `states`: the state as callers are told it is one of these; none means any. `partition`: of one of this name, of the
    job's client or of all. `created_after`: at this instant or later, `created_before`: earlier than this. `before_id`:
    older than this one, `from_id`: not older (ids sort by time). `not_retried`: without those that were submitted
    again. `limit`: on a page.
    """

    client_id: str | None = None
    states: Collection[State] = ()
    operation: str | None = None
    downstream: str | None = None
    partition: str | None = None
    error_code: ErrorCode | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    before_id: str | None = None
    not_retried: bool = False
    from_id: str | None = None
    limit: int = 50


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of jobs, newest first. `before_id`: the next page's cursor; None: there is no more."""

    jobs: Sequence[Job]
    before_id: str | None
