"""Parameter Objects and Header Objects of the OpenAPI document."""

from collections.abc import Iterable
from typing import Any, get_args

from config.client_shares import shares
from config.settings import Settings
from tidegate.dispatch.partitions.view import CURSOR_PATTERN, Sort
from tidegate.operations.operation import Operation
from tidegate.operations.sharing import USUAL_PRIORITY
from tidegate.states import State
from tidegate.webhooks.url import LONGEST
from webapp.http.queries import MOST_JOBS, PARTITION_CLIENT, PARTITION_NAME
from webapp.http.submit_headers import KEY_HEADER_PATTERN, PARTITION_PATTERN
from webapp.http.webhook_shapes import EventName
from webapp.openapi.names import Names
from webapp.openapi.schemas import Node, ref

_STATES = [state.value for state in State]

HEADERS: dict[str, Node] = {
    "Location": {
        "description": "Absolute URL of the job.",
        "required": True,
        "schema": {"type": "string", "format": "uri"},
    },
    "Retry-After": {
        "description": "Whole seconds until it is worth asking again, from the job's expected finish.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "ETag": {
        "description": "Changes with every change of the job that a caller can see; `waiting` is none.",
        "required": True,
        "schema": {"type": "string", "pattern": f'^W/"[0-9]+-({"|".join(_STATES)})"$'},
    },
    "Preference-Applied": {
        "description": "What of `Prefer` made a difference: `wait=10`, `respond-async`.",
        "schema": {"type": "string"},
    },
    "Vary": {"required": True, "schema": {"type": "string", "const": "Accept"}},
    "Tidegate-Job-State": {
        "description": "The job's state; a 502 or 504 without it is some proxy's.",
        "required": True,
        "schema": {"type": "string", "enum": _STATES},
    },
    "Cache-Control": {"required": True, "schema": {"type": "string", "const": "private, no-cache"}},
    "WWW-Authenticate": {"required": True, "schema": {"type": "string", "examples": ['Bearer realm="tidegate"']}},
    "Allow": {
        "description": "The methods that there are.",
        "required": True,
        "schema": {"type": "string", "examples": ["GET, HEAD, OPTIONS"]},
    },
    "Deprecation": {
        "description": "Since when the path is deprecated: a date as RFC 9745 writes it.",
        "required": True,
        "schema": {"type": "string", "examples": ["@1796083200"]},
    },
    "Link": {
        "description": "The path to use instead (`successor-version`) and a page about it (`deprecation`).",
        "required": True,
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "How many more requests are taken now, and in how many seconds there are more.",
        "schema": {"type": "string", "examples": ['"submits";r=99;t=0']},
    },
    "RateLimit-Policy": {
        "description": "The limit: so many requests in so many seconds.",
        "schema": {"type": "string", "examples": ['"submits";q=100;w=1']},
    },
}

PARAMETERS: dict[str, Node] = {
    "job_id": {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}},
    "downstream": {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}},
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same key from the same client gives the same job, for as long as the job is kept."
        ' In quotes, as the IETF draft writes it ("k 1"), or bare: both are the same key.',
        "schema": {"type": "string", "pattern": KEY_HEADER_PATTERN},
    },
    "Job-Not-Before": {
        "name": "Job-Not-Before",
        "in": "header",
        "description": "No attempt before this instant, an HTTP-date or RFC 3339; it lies before the deadline.",
        "schema": {"type": "string"},
    },
    "Job-Partition": {
        "name": "Job-Partition",
        "in": "header",
        "description": "In whose name the job waits, where the downstream's jobs wait in partitions by this header: "
        "partitions take turns, and each may have limits of its own. With keys on, the name is the client's own.",
        "schema": {"type": "string", "pattern": PARTITION_PATTERN},
        "example": "customer-17",
    },
    "Job-Priority": {
        "name": "Job-Priority",
        "in": "header",
        "description": "0 (first) to 7: the job overtakes others of its partition that came not long before it. A 422 "
        "where the partition keeps the order of submit.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 7, "default": USUAL_PRIORITY},
    },
    "traceparent": {
        "name": "traceparent",
        "in": "header",
        "description": "W3C trace context, carried to the downstream; one that can't be read is none.",
        "schema": {"type": "string"},
    },
    "Webhook-Url": {
        "name": "Webhook-Url",
        "in": "header",
        "description": "Where to send the job's end, signed (Standard Webhooks): an http:// or https:// URL whose host "
        "is public. Make a secret first.",
        "schema": {"type": "string", "format": "uri", "maxLength": LONGEST},
    },
    "If-None-Match": {
        "name": "If-None-Match",
        "in": "header",
        "description": "An `ETag` from before: 304 while it still holds.",
        "schema": {"type": "string"},
    },
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "RFC 7240, a list. `wait=10`: answer when there is something new, or after so many seconds; "
        "after a submit, something new is the job's end. The gateway's settings have a longest wait.",
        "schema": {"type": "string"},
    },
    "Last-Event-ID": {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The `id` of the last event that was received: 204 when it was the job's last.",
        "schema": {"type": "string"},
    },
    "ticket": {
        "name": "ticket",
        "in": "query",
        "description": "In place of a key, where keys are needed: as in `links.events`, good for 5 minutes.",
        "schema": {"type": "string"},
    },
    "state": {"name": "state", "in": "query", "schema": ref("State")},
    "operation": {"name": "operation", "in": "query", "schema": {"type": "string"}},
    "downstream_filter": {"name": "downstream", "in": "query", "schema": {"type": "string"}},
    "partition_filter": {
        "name": "partition",
        "in": "query",
        "description": "Of the partition of this name: the client's own, or one that is shared.",
        "schema": {"type": "string", "pattern": PARTITION_PATTERN},
    },
    "error_code": {
        "name": "error_code",
        "in": "query",
        "description": "The `code` of its `error`: of jobs that ended without a result.",
        "schema": ref("ErrorCode"),
    },
    "created_after": {
        "name": "created_after",
        "in": "query",
        "description": "Created at this instant or later (RFC 3339; `+` is written `%2B` in a URL).",
        "schema": {"type": "string", "format": "date-time"},
    },
    "created_before": {
        "name": "created_before",
        "in": "query",
        "description": "Created earlier than this instant; it is later than `created_after`.",
        "schema": {"type": "string", "format": "date-time"},
    },
    "client": {
        "name": "client",
        "in": "query",
        "description": "Of the client of this id; only operators may ask so.",
        "schema": {"type": "string"},
    },
    "limit": {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_JOBS, "default": 50},
    },
    "cursor": {
        "name": "cursor",
        "in": "query",
        "description": "As in `next` of the page before.",
        "schema": {"type": "string", "format": "uuid"},
    },
    "downstream_of_partitions": {"name": "downstream", "in": "path", "required": True, "schema": {"type": "string"}},
    "partition_name": {
        "name": "name",
        "in": "query",
        "description": "The partition of this name, and no other; empty: a client's unnamed one.",
        "schema": {"type": "string", "pattern": PARTITION_NAME},
    },
    "changed_partition": {
        "name": "name",
        "in": "query",
        "required": True,
        "description": "The partition's name; empty: a client's unnamed one, and the weight is that of the client.",
        "schema": {"type": "string", "pattern": PARTITION_NAME},
    },
    "partition_client": {
        "name": "client",
        "in": "query",
        "description": "Partitions of the client of this id; with a name and without this: the one that all clients "
        "share, where keys are off that of the one client there is.",
        "schema": {"type": "string", "pattern": PARTITION_CLIENT},
    },
    "partition_sort": {
        "name": "sort",
        "in": "query",
        "description": "Where the most jobs wait first, or by name.",
        "schema": {"type": "string", "enum": [*get_args(Sort)], "default": "waiting"},
    },
    "partition_cursor": {
        "name": "cursor",
        "in": "query",
        "description": "As in `next` of the page before.",
        "schema": {"type": "string", "pattern": CURSOR_PATTERN},
    },
    "delivery_state": {"name": "state", "in": "query", "schema": ref("DeliveryState")},
    "event": {"name": "event", "in": "query", "schema": {"type": "string", "enum": [*get_args(EventName)]}},
    "secret_id": {"name": "secret_id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}},
    "all_or_none": {
        "name": "all_or_none",
        "in": "query",
        "description": "One refusal refuses all, as the answer.",
        "schema": {"type": "boolean", "default": False},
    },
}


def parameter(name: str) -> Node:
    """A reference to a Parameter Object."""
    return {"$ref": f"#/components/parameters/{name}"}


def headers(*names: str) -> Node:
    """References to Header Objects."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def limit_headers(settings: Settings, counted: str | None) -> Node:
    """References to the RateLimit headers, for a route that counts against a limit."""
    share = shares(settings)
    limits = {"submits": share.submits, "reads": share.reads}
    return headers("RateLimit", "RateLimit-Policy") if counted and limits[counted] else {}


def job_timeout(operation: Operation) -> Node:
    """The Parameter Object of Job-Timeout, which shortens the operation's own timeout."""
    longest = int(operation.timeout.total_seconds())
    return {
        "name": "Job-Timeout",
        "in": "header",
        "description": "Seconds until the deadline.",
        "schema": {"type": "integer", "minimum": 1, "maximum": max(1, longest), "default": longest},
    }


def passed_headers(operation: Operation) -> Iterable[Node]:
    """The Parameter Objects of the headers that the operation passes on."""
    described = "Goes along to the downstream."
    for name in operation.pass_headers:
        yield {"name": name, "in": "header", "description": described, "schema": {"type": "string"}}


def operation_name(name: str, operations: Iterable[Operation]) -> Node:
    """The Parameter Object of a path parameter that names an operation."""
    names = sorted(operation.name for operation in operations)
    known = Names()
    # Generators give up a whole client for an enum with two values that they would call the same.
    are_apart = all(known.new(each) == each for each in names)
    only: dict[str, Any] = {"enum": names} if names and are_apart else {}
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", **only}}
