"""The description of a route for the OpenAPI document: `@described(...)` beside its view, and what follows from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from flask import Flask
from pydantic import BaseModel

from tidegate import errors
from webapp.openapi.answers import Document, Responses
from webapp.openapi.problem_types import BAD_REQUEST, NOT_FOUND, REFUSED, UNKNOWN, ProblemType
from webapp.openapi.schemas import Node, ref

Tag = Literal["Jobs", "Operations", "Downstreams", "Many jobs", "Webhooks", "Health"]
View = TypeVar("View", bound=Callable[..., Any])

SUBMIT_REFUSALS = (
    errors.InvalidHeader,
    errors.InvalidWebhook,
    errors.NoPriorities,
    errors.IdempotencyConflict,
    errors.JobErased,
    errors.BodyTooLarge,
    errors.UnsupportedBody,
    errors.CannotFinishInTime,
    errors.BacklogFull,
    errors.TooManyPartitions,
)
BAD_JSON = (errors.MalformedBody, errors.InvalidInput)
_OF_A_BODY = {
    errors.BodyTooLarge,
    errors.BodyTooSlow,
    errors.LengthRequired,
    errors.TooManyBodies,
    errors.UnsupportedBody,
}
_IN_PATH = {"job_id", "secret_id", "downstream", "downstream_of_partitions", "operation_name", "operation_of_bulk"}


@dataclass(frozen=True, kw_only=True)
class RequestBody:
    """A Request Body Object, and the pydantic model whose schema it names."""

    node: Node
    model: type[BaseModel] | None = None


@dataclass(frozen=True, kw_only=True)
class Route:
    """The description of one route, of which the rest of its Operation Object follows.

    `answers` by status, without problems; `refusals` beyond those that follow from the rest: a key (`needs`), a limit
    (`counted`), a body, a parameter in its path, the database. `of_each_operation`: the document has a path for each
    operation instead of one with a parameter.
    """

    id: str
    tag: Tag
    answers: Callable[[], Responses]
    parameters: tuple[str, ...] = ()
    body: RequestBody | None = None
    refusals: tuple[type[errors.Refusal], ...] = ()
    needs: Literal["nothing", "client", "metrics", "operator"] = "client"
    counted: Literal["submits", "reads"] | None = None
    uses_database: bool = True
    writes: bool = False
    of_each_operation: bool = False
    is_deprecated: bool = False

    @property
    def answer_shape(self) -> type | None:
        """The type of the JSON document that it answers with; None: a job, no JSON, or nothing."""
        return self.answers.shape if isinstance(self.answers, Document) else None

    @property
    def request_model(self) -> type[BaseModel] | None:
        """The model of its JSON body; None: it has none, or an operation's input."""
        return self.body.model if self.body else None

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


class described(Route):  # noqa: N801 - used as a decorator, like functools.cached_property
    """Decorator of a view function: attaches the route's description, for the OpenAPI document."""

    def __call__(self, view: View) -> View:
        """Stands below `@routes.get(...)`. The view itself stays as it is."""
        vars(view)["route"] = self
        return view


def route_of(app: Flask, endpoint: str) -> Route:
    """The description of this endpoint's view function; raises LookupError when it has none."""
    found = vars(app.view_functions[endpoint]).get("route")
    if not isinstance(found, Route):
        raise LookupError(f"{endpoint}: its view function has no description; put @described(...) above it")
    return found


def json_body(model: type[BaseModel], *content_types: str, required: bool = True) -> RequestBody:
    """A JSON request body of this model."""
    content = {each: {"schema": ref(model.__name__)} for each in content_types or ["application/json"]}
    return RequestBody(node={"required": required, "content": content}, model=model)
