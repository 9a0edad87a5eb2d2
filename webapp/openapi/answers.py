"""Response Objects of the OpenAPI document: answers about a job, other documents, and problems by status."""

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import TypeAlias

from tidegate.states import OPEN_STATES, State
from webapp.http.answers import EVENT_STREAM, HTTP_STATUS, PROBLEM
from webapp.openapi.examples import job_example, job_problem_example, problem_content, problem_examples
from webapp.openapi.parameters import HEADERS, headers
from webapp.openapi.problem_types import JOB_ENDS, ProblemType
from webapp.openapi.schemas import BYTES, Node, ref

Responses: TypeAlias = dict[str, Node]
"""Response Objects by status."""
_ABOUT_A_JOB = ("Tidegate-Job-State", "Cache-Control")
_HEADERS_OF_STATUS = {401: ("WWW-Authenticate",), 405: ("Allow",), 429: ("Retry-After",), 503: ("Retry-After",)}
_OPEN = [state.value for state in State if state in OPEN_STATES]
# The fields of a server-sent event; `data` is a string, for that is what the stream has.
_EVENT: Node = {
    "type": "object",
    "properties": {
        "event": {"enum": ["state", "progress"]},
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": ref("Job")},
    },
    "required": ["event", "id", "data"],
}
# What a client can do next with a job, by operationId.
_NEXT = ("readJob", "readResult", "cancelJob", "retryJob", "deleteJob")


@dataclass(frozen=True)
class Document:
    """The answer of a route that returns one JSON document, of the type `shape`. A call makes its Response Object.

    `headers` are names; `links` are Link Objects, made by `links()` or `job_links()`.
    """

    description: str
    shape: type
    _: KW_ONLY
    status: int = 200
    headers: tuple[str, ...] = ()
    links: Node = field(default_factory=dict)

    def __call__(self) -> Responses:
        """The response, by its status."""
        response = {
            "description": self.description,
            "headers": headers(*self.headers),
            "content": {"application/json": {"schema": ref(self.shape.__name__)}},
        }
        return {str(self.status): response | ({"links": self.links} if self.links else {})}


@dataclass(frozen=True)
class NoContent:
    """The answer 204 of a route that returns nothing. A call makes its Response Object."""

    description: str

    def __call__(self) -> Responses:
        """The response, by its status."""
        return {"204": {"description": self.description}}


def links(*operation_ids: str, parameters: Mapping[str, str]) -> Node:
    """Link Objects to these routes; `parameters`: the expression for each, such as `$response.body#/id`."""
    return {each: {"operationId": each, "parameters": {**parameters}} for each in operation_ids}


def job_links(job_id: str) -> Node:
    """Link Objects to everything that can be done with a job; `job_id`: the expression for its id."""
    return links(*_NEXT, parameters={"job_id": job_id})


def submitted() -> Responses:
    """The responses to a submit, by status; to one that waited for the end, those of a read."""
    succeeded = _ended(State.SUCCEEDED, "With `Prefer: wait`: the job succeeded in time.")
    waited = {"200": succeeded, **_job_problems()}
    for answer in waited.values():
        answer["headers"] |= headers("Location", "Preference-Applied")
    return {"202": _accepted(), **waited}


def read() -> Responses:
    """The responses to a read of a job, which may have waited, or become an event stream."""
    found = {
        "200": _ended(State.SUCCEEDED, "The job succeeded; this is its result, or where it is."),
        "202": _on_its_way(),
        "304": _not_modified(),
        **_job_problems(),
    }
    for answer in found.values():
        answer["headers"] |= headers("Vary", "Preference-Applied")
    found["200"]["content"] |= events()["200"]["content"]
    found["200"]["description"] += " With `Accept: text/event-stream`, whatever its state: as `/events`."
    found["204"] = events()["204"]
    return found


def result() -> Responses:
    """The responses to a read of a job's raw result, by status."""
    return {"200": _raw_result(), "202": _on_its_way(), **_job_problems()}


def cancelled() -> Responses:
    """The responses to a cancel of one job."""
    return {
        "200": _ended(State.CANCELLED, "The job is cancelled."),
        "202": _on_its_way("A running attempt was asked to stop."),
    }


def events() -> Responses:
    """The responses of an event stream."""
    return {
        "200": {
            "description": "Events `state` and `progress`, each with the job's document as `data` and its version as "
            "`id`, and comments as heartbeats. It ends after the event of the final state.",
            "headers": headers("Vary", *_ABOUT_A_JOB),
            "content": {EVENT_STREAM: {"schema": _EVENT}},
        },
        "204": {
            "description": "The event of `Last-Event-ID` was the last one; browsers then stop asking.",
            "headers": headers("Vary", *_ABOUT_A_JOB),
        },
    }


def exposition() -> Responses:
    """The response 200 with metrics, also while the database is away."""
    return {
        "200": {
            "description": "Prometheus' text format, version 0.0.4. While the database does not answer, nothing but "
            "`tidegate_database_up 0`.",
            "headers": {},
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    }


def either(one: Node, other: Node) -> Node:
    """Merges two problem responses of one status: headers that only one of them has become optional."""
    only_some = one["headers"].keys() ^ other["headers"].keys()
    optional = {name: {**HEADERS[name], "required": False} for name in only_some}
    contents = [each["content"][PROBLEM] for each in (one, other)]
    return {
        "description": f"{one['description']} Or: {other['description']}",
        "headers": {**one["headers"], **other["headers"], **optional},
        "content": problem_content(
            {"anyOf": [content["schema"] for content in contents]},
            contents[0]["examples"] | contents[1]["examples"],
        ),
    }


class Problems:
    """Collects each different problem response once, for components/responses, and makes references to it."""

    def __init__(self) -> None:
        self.components: dict[str, Node] = {}

    def of(self, problems: Iterable[ProblemType], extra_headers: Node) -> Responses:
        """References to problem responses by status, for these types of problem."""
        in_order = sorted(set(problems), key=attrgetter("status", "name"))
        return {
            str(status): self._refer(status, list(types), extra_headers if status == 429 else {})
            for status, types in groupby(in_order, key=attrgetter("status"))
        }

    def followed(self, reference: Node) -> Node:
        """The response that a reference made by `of` names."""
        return self.components[reference["$ref"].rpartition("/")[2]]

    def _refer(self, status: int, problems: list[ProblemType], extra_headers: Node) -> Node:
        name = "_or_".join(each.name for each in problems)
        self.components[name] = {
            "description": " ".join(f"{each.title}." for each in problems),
            "headers": {**headers(*_HEADERS_OF_STATUS.get(status, ())), **extra_headers},
            "content": problem_content(
                ref("Problem", type={"enum": [each.uri for each in problems]}, status={"const": status}),
                problem_examples(problems),
            ),
        }
        return {"$ref": f"#/components/responses/{name}"}


def _accepted() -> Node:
    """The response 202 to a submit."""
    return {
        "description": "Recorded. `Location` tells everything about the job from now on.",
        "headers": headers("Location", "Retry-After", "Preference-Applied", *_ABOUT_A_JOB),
        "content": {"application/json": {"schema": ref("Job"), "examples": job_example(State.QUEUED)}},
        "links": job_links("$response.body#/id"),
    }


def _on_its_way(description: str = "Not done yet. `Retry-After` says when to ask again.") -> Node:
    """The response 202 about a job that is not final."""
    return {
        "description": description,
        "headers": headers("Retry-After", "ETag", *_ABOUT_A_JOB),
        "content": {
            "application/json": {"schema": ref("Job", state={"enum": _OPEN}), "examples": job_example(State.RUNNING)}
        },
        "links": job_links("$response.body#/id"),
    }


def _ended(state: State, description: str) -> Node:
    """The response 200 about a job in this state."""
    return {
        "description": description,
        "headers": headers("ETag", *_ABOUT_A_JOB),
        "content": {
            "application/json": {"schema": ref("Job", state={"const": state.value}), "examples": job_example(state)}
        },
        "links": job_links("$response.body#/id"),
    }


def _job_problems() -> Responses:
    """The responses about jobs that ended without a result, by status."""
    return {str(HTTP_STATUS[state]): _job_problem(state, end) for state, end in JOB_ENDS.items()}


def _not_modified() -> Node:
    """The response 304."""
    retry_after: Node = {"description": "Unless the job is final.", "schema": {"type": "integer", "minimum": 1}}
    return {
        "description": "As it was when `ETag` was that of `If-None-Match`.",
        "headers": {**headers("ETag", *_ABOUT_A_JOB), "Retry-After": retry_after},
    }


def _raw_result() -> Node:
    """The response 200 with a job's raw result."""
    return {
        "description": "The result, with its own content type.",
        "headers": headers(*_ABOUT_A_JOB),
        "content": {
            "application/octet-stream": {"schema": BYTES},
            "application/json": {"schema": {}},
            "*/*": {"schema": {}},
        },
    }


def _job_problem(state: State, end: ProblemType) -> Node:
    return {
        "description": f"{end.title}. {end.meaning}",
        "headers": headers(*_ABOUT_A_JOB),
        "content": problem_content(
            ref("JobProblem", type={"const": end.uri}, status={"const": end.status}, state={"const": state.value}),
            job_problem_example(state),
        ),
    }
