"""What the OpenAPI document says of a route, and the problem types that follow from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tidegate import errors
from webapp.openapi.problem_types import BAD_REQUEST, NOT_FOUND, REFUSED, UNKNOWN, ProblemType
from webapp.openapi.schemas import Node

Tag = Literal["Jobs", "Operations", "Downstreams", "Many jobs", "Webhooks", "Health"]

_OF_A_BODY = {
    errors.BodyTooLarge,
    errors.BodyTooSlow,
    errors.LengthRequired,
    errors.TooManyBodies,
    errors.UnsupportedBody,
}
_IN_PATH = {"job_id", "secret_id", "downstream", "operation_name", "operation_of_batch"}


@dataclass(frozen=True, kw_only=True)
class Route:
    """The description of one route, of which the rest of its Operation Object follows.

    `answers` by status, without problems; `refusals` beyond those that follow from the rest: a key (`needs`), a limit
    (`counted`), a body, a parameter in its path, the database.
    """

    id: str
    tag: Tag
    answers: Callable[[], Node]
    parameters: tuple[str, ...] = ()
    body: Node | None = None
    refusals: tuple[type[errors.Refusal], ...] = ()
    needs: Literal["nothing", "client", "metrics", "operator"] = "client"
    counted: Literal["submits", "reads"] | None = None
    uses_database: bool = True
    writes: bool = False

    def problems(self, *, is_safe: bool, has_keys: bool, has_limit: bool) -> set[ProblemType]:
        """Every problem type that this route answers with, except for a wrong method."""
        refusals = {*self.refusals, errors.FieldsTooLarge, errors.Overloaded}
        if self.body:
            refusals |= _OF_A_BODY
        if has_keys and self.needs != "nothing":
            refusals |= {errors.Unauthorized, errors.Forbidden}
        if has_keys and refusals & {errors.NoRoom, errors.CannotFinishInTime}:  # held requests, and submits
            refusals.add(errors.ShareUsed)
        if not has_keys:
            refusals |= {errors.UnknownHost, *([] if is_safe else [errors.Forbidden])}
        if has_limit:
            refusals.add(errors.TooFast)
        if self.uses_database:
            refusals.add(errors.Unavailable)
        found = {REFUSED[refusal] for refusal in refusals}
        if self.writes:
            found.add(UNKNOWN)
        if self.body:
            found.add(BAD_REQUEST)
        if _IN_PATH & {*self.parameters}:
            found.add(NOT_FOUND)
        return found


def json_body(schema: Node, *content_types: str) -> Node:
    """A Request Body Object for JSON."""
    return {
        "required": True,
        "content": {content_type: {"schema": schema} for content_type in content_types or ["application/json"]},
    }
