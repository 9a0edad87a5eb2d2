"""Parses the query string of a list: filter, page size, cursor; and the filters of jobs, which bodies have too."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from flask import request
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from tidegate.access.keys import Caller, Role
from tidegate.errors import Forbidden, InvalidQuery
from tidegate.jobs.filter import Filter
from tidegate.operations.outcome import ErrorCode
from tidegate.states import State
from tidegate.timeformat import parse_instant
from webapp.http.submit_headers import PARTITION_PATTERN

MOST_JOBS = 200
# PostgreSQL refuses a parameter with a NUL.
PARTITION_NAME, PARTITION_CLIENT = "^[!-~]{0,64}$", "^[!-.0-~]{0,40}$"
"""Of a partition: its own name, empty for an unnamed one, and its client, empty for all."""
NAME_PATTERN = r"^[^\x00]*$"
Query = TypeVar("Query", bound=BaseModel)


def _instant(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError("an instant is a text of RFC 3339 such as 2026-12-24T17:00:00Z")
    return parse_instant(value)


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
PartitionName = Annotated[str, Field(pattern=PARTITION_PATTERN)]
Instant = Annotated[AwareDatetime, BeforeValidator(_instant)]
"""An instant of RFC 3339. pydantic alone takes much else besides, such as a bare number."""


class Period(BaseModel):
    """A period of creation: `created_after` is its first instant, `created_before` lies behind its last."""

    created_after: Instant | None = None
    created_before: Instant | None = None

    @field_validator("created_before")
    @classmethod
    def _check_order(cls, before: datetime | None, others: ValidationInfo) -> datetime | None:
        after = others.data.get("created_after")
        if after and before and after >= before:
            raise ValueError("it must be later than created_after: nothing lies between them")
        return before


class Chosen(BaseModel):
    """What jobs are chosen by, beside their time; all that are given hold. `cursor`: only those before this one."""

    state: State | None = None
    operation: Name | None = None
    downstream: Name | None = None
    partition: PartitionName | None = None
    error_code: ErrorCode | None = None
    client: Name | None = None
    cursor: UUID | None = None

    def filter(self) -> Filter:
        """Makes the jobs' Filter."""
        return Filter(
            client_id=self.client,
            states=(self.state,) if self.state else (),
            operation=self.operation,
            downstream=self.downstream,
            partition=self.partition,
            error_code=self.error_code,
            before_id=str(self.cursor) if self.cursor else None,
        )


class JobFilters(Chosen, Period):
    """The filters of jobs; all that are given hold."""

    def filter(self) -> Filter:
        """Makes the jobs' Filter."""
        return replace(super().filter(), created_after=self.created_after, created_before=self.created_before)


class _Query(JobFilters):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=MOST_JOBS)


def read_query(model: type[Query]) -> Query:
    """Validates the query string of this request; raises InvalidQuery."""
    try:
        # A parameter that comes twice stays a list, which fails validation.
        given = {name: each[0] if len(each) == 1 else each for name, each in request.args.lists()}
        return model.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        reason = fault["msg"].removeprefix("Value error, ")
        raise InvalidQuery(f"{'.'.join(map(str, fault['loc']))}: {reason}") from None


def listing_filter(caller: Caller) -> Filter:
    """Makes the jobs' Filter of this request; raises Forbidden when a client asks for a client's jobs by name."""
    query = read_query(_Query)
    if query.client is not None and caller.role is not Role.OPERATOR:
        raise Forbidden("client: this filter needs an operator's key; without it the list has your own jobs")
    wanted = replace(query.filter(), limit=query.limit)
    return wanted if caller.scope is None else replace(wanted, client_id=caller.scope)


def next_page(last_id: str) -> str:
    """Path and query of the page after this job's id (or its delivery's)."""
    return f"{request.path}?{urlencode({**request.args.to_dict(), 'cursor': last_id})}"
