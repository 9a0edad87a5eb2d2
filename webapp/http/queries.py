"""Parses the query string of a list: filter, page size, cursor."""

from dataclasses import replace
from typing import TypeVar
from urllib.parse import urlencode
from uuid import UUID

from flask import request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tidegate.access.keys import Caller
from tidegate.errors import InvalidQuery
from tidegate.jobs.filter import Filter
from tidegate.states import State

MOST_JOBS = 200
# PostgreSQL refuses a parameter with a NUL.
NAME_PATTERN = r"^[^\x00]*$"
Query = TypeVar("Query", bound=BaseModel)


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")

    state: State | None = None
    operation: str | None = Field(None, pattern=NAME_PATTERN)
    limit: int = Field(50, ge=1, le=MOST_JOBS)
    cursor: UUID | None = None


def read_query(model: type[Query]) -> Query:
    """Validates the query string of this request; raises InvalidQuery."""
    try:
        # A parameter that comes twice stays a list, which fails validation.
        given = {name: each[0] if len(each) == 1 else each for name, each in request.args.lists()}
        return model.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise InvalidQuery(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


def listing_filter(caller: Caller) -> Filter:
    """Makes the jobs' Filter of this request."""
    query = read_query(_Query)
    wanted = Filter(states=(query.state,) if query.state else (), operation=query.operation, limit=query.limit)
    return replace(wanted, client_id=caller.scope, before_id=str(query.cursor) if query.cursor else None)


def next_page(last_id: str) -> str:
    """Path and query of the page after this job's id (or its delivery's)."""
    return f"{request.path}?{urlencode({**request.args.to_dict(), 'cursor': last_id})}"
