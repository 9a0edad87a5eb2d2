"""Bulk submits: many jobs in one request, as a JSON array or NDJSON; each taken or refused alone, or all or none."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tidegate.access.keys import Caller
from tidegate.errors import (
    MOST_FAULTS,
    InputFault,
    InvalidInput,
    InvalidQuery,
    MalformedBody,
    Refusal,
    TooFast,
    UnknownOperation,
    UnsupportedBody,
)
from tidegate.intake.submission import Submission
from tidegate.jobs.document import job_path
from tidegate.jobs.job import Job
from tidegate.operations.operation import Body
from tidegate.operations.sharing import PRIORITIES
from tidegate.operations.typed_input import check, read
from webapp.context import context
from webapp.http import shapes
from webapp.http.auth import caller
from webapp.http.bodies import whole_body
from webapp.http.documents import absolute, base_here, job_document, json_answer
from webapp.http.error_handlers import count_refusal
from webapp.http.numbers import WHOLE
from webapp.http.rate_limits import count
from webapp.http.refusals import refusal_document, retry_after_seconds
from webapp.http.submit_headers import KEY_PATTERN, PARTITION_PATTERN, passed_headers, traceparent_in, webhook_in
from webapp.openapi.answers import Document, job_links
from webapp.openapi.route import BAD_JSON, SUBMIT_REFUSALS, RequestBody, described
from webapp.openapi.schemas import ref

routes = Blueprint("bulk", __name__, url_prefix="/v1")

MOST_JOBS = 1000
# The day on which `jobs/batch` was renamed, as a structured field's date. No `Sunset` beside it: the path ends with a
# release, and on which day that is installed is the operator's affair.
_DEPRECATED = f"@{int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())}"
NDJSON = "application/x-ndjson"
# Members of one item that are validated: more than any valid item has.
_MOST_MEMBERS = 20


class Item(BaseModel):
    """One job of a bulk submit: its input, and what headers say of a single one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: Any
    idempotency_key: Annotated[str, Field(pattern=KEY_PATTERN)] | None = None
    timeout: Annotated[int, Field(ge=1, le=999_999_999), WHOLE] | None = None
    partition: Annotated[str, Field(pattern=PARTITION_PATTERN)] | None = None
    priority: Annotated[int, Field(ge=PRIORITIES.start, le=PRIORITIES[-1]), WHOLE] | None = None


_ITEMS = TypeAdapter(Annotated[list[Item], Field(min_length=1, max_length=MOST_JOBS)])
_BODY = {
    "application/json": {
        "schema": {"type": "array", "items": ref(Item.__name__), "minItems": 1, "maxItems": MOST_JOBS}
    },
    NDJSON: {"schema": {"type": "string", "description": "An `Item` a line."}},
}


_ANSWERS = Document(
    "What became of each.",
    shapes.BulkAnswers,
    status=202,
    links=job_links("$response.body#/jobs/0/job/id"),
)
_SUBMIT = described(
    id="submitBulk",
    tag="Many jobs",
    answers=_ANSWERS,
    parameters=("operation_of_bulk", "all_or_none", "traceparent", "Webhook-Url"),
    body=RequestBody(node={"required": True, "content": _BODY}, model=Item),
    refusals=(UnknownOperation, InvalidQuery, *SUBMIT_REFUSALS, *BAD_JSON),
    counted="submits",
    writes=True,
)


@routes.post("/operations/<operation>/jobs/bulk")
@_SUBMIT
def submit(operation: str) -> Response:
    """Submits up to 1,000 jobs of one operation. `?all_or_none=true`: one refusal refuses all."""
    sender = caller()
    context().registry.operation(operation)
    all_or_none = _all_or_none()
    submissions = list(_submissions(operation, sender))
    answers = _submit_all(submissions) if all_or_none else _submit_each(submissions)
    document: shapes.BulkAnswers = {"jobs": [*_documents(answers)]}
    return json_answer(document, 202)


@routes.post("/operations/<operation>/jobs/batch")
@replace(_SUBMIT, id="submitBatch", answers=replace(_ANSWERS, headers=("Deprecation", "Link")), is_deprecated=True)
def submit_batch(operation: str) -> Response:
    """The older path of `jobs/bulk`, which takes and answers the same. The next release has it no more."""
    return submit(operation)


@routes.after_request
def _announce_deprecation(response: Response) -> Response:
    """Tells who uses the older path, whatever the answer, which path to use instead (RFC 9745, RFC 5829)."""
    if request.endpoint == "bulk.submit_batch":
        newer = absolute(quote(request.path.removesuffix("batch")) + "bulk")
        response.headers["Deprecation"] = _DEPRECATED
        response.headers["Link"] = f'<{newer}>; rel="successor-version", <{absolute("/docs")}>; rel="deprecation"'
    return response


def _documents(answers: Sequence[Job | Refusal]) -> Iterator[shapes.BulkAnswer]:
    """The answer about each job. A faulty one shows at least its first fault, all together about a hundred."""
    told = 0
    for document in map(_answer, answers):
        faults = document["problem"].get("errors", []) if document["problem"] else []
        del faults[max(1, MOST_FAULTS - told) :]
        told += len(faults)
        yield document


def _answer(answer: Job | Refusal) -> shapes.BulkAnswer:
    if isinstance(answer, Refusal):
        count_refusal(answer)
        problem = refusal_document(answer, request.path)
        later = retry_after_seconds(answer)
        return {"status": problem["status"], "location": None, "job": None, "problem": problem, "retry_after": later}
    own = context().jobs
    waiting = own.waiting(answer)
    return {
        "status": 202,
        "location": absolute(job_path(answer)),
        "job": job_document(answer, waiting=waiting),
        "problem": None,
        "retry_after": None if answer.state.is_final else own.retry_after_seconds(answer, waiting),
    }


def _submit_all(submissions: Sequence[Submission]) -> Sequence[Job | Refusal]:
    for _ in submissions:
        count(context().submit_limit, "submits")
    return context().jobs.submit_all(submissions)


def _submit_each(submissions: Sequence[Submission]) -> Sequence[Job | Refusal]:
    """Submits those within the client's rate limit; the rest is refused one by one, or all if none is within."""
    too_fast: list[Refusal] = []
    within: list[Submission] = []
    for submission in submissions:
        try:
            count(context().submit_limit, "submits")
        except TooFast as refusal:
            if not within:
                raise
            too_fast = [refusal] * (len(submissions) - len(within))
            break
        within.append(submission)
    return [*context().jobs.submit_each(within), *too_fast]


def _submissions(operation: str, sender: Caller) -> Iterator[Submission]:
    trace, told_to = traceparent_in(request.headers), webhook_in(request.headers, base_here())
    if told_to:  # one header for all: a bad one is the request's fault, not that of each job
        context().jobs.webhook_checks.check_url(told_to)
    passed = passed_headers(request.headers, context().registry.passed_headers(operation))
    for number, item in enumerate(_items(_as_array(whole_body()))):
        yield Submission(
            operation=operation,
            body=Body(content=_as_json(item.input, number), headers=passed),
            client_id=sender.client_id,
            timeout=None if item.timeout is None else timedelta(seconds=item.timeout),
            idempotency_key=item.idempotency_key,
            traceparent=trace,
            webhook=told_to,
            partition=item.partition,
            priority=item.priority,
            names_shared=sender.names_shared,
        )


def _items(content: bytes) -> list[Item]:
    """Parses and validates the array; raises MalformedBody and InvalidInput.

    Its size is checked before pydantic validates it, which would make a fault of each of a million items or members.
    """
    given = read(content)
    if isinstance(given, list):
        if len(given) > MOST_JOBS:
            raise InvalidInput([InputFault("", f"at most {MOST_JOBS} jobs are taken, not {len(given)}")])
        for number, item in enumerate(given):
            if isinstance(item, dict) and len(item) > _MOST_MEMBERS:
                allowed = ", ".join(Item.model_fields)
                raise InvalidInput([InputFault(f"/{number}", f"a job has {allowed}, nothing else")])
    items: list[Item] = check(_ITEMS, given)
    return items


def _all_or_none() -> bool:
    flag = request.args.get("all_or_none", "false")
    if flag not in {"true", "false"}:
        raise InvalidQuery("all_or_none: true or false")
    return flag == "true"


def _as_array(content: bytes) -> bytes:
    """The body as a JSON array: JSON as it came, NDJSON with its lines joined."""
    match request.mimetype:
        case "application/json":
            return content
        case "application/x-ndjson" | "application/jsonl":
            lines = [line for line in content.splitlines() if line.strip()]
            for number, line in enumerate(lines, 1):
                _check_line(number, line)
            return b"[" + b",".join(lines) + b"]"
        case other:
            raise UnsupportedBody(f"a bulk submit is application/json or {NDJSON}, not {other or 'an unnamed type'}")


def _check_line(number: int, line: bytes) -> None:
    """Raises MalformedBody unless the line is one JSON value: joined lines could pass for other values."""
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"line {number} is not a JSON value of its own: {error}") from None


def _as_json(value: Any, number: int) -> bytes:
    """Encodes an item's input as a body.

    Not by orjson: it does not know integers of more than 64 bits, and makes 1e400 null.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise InvalidInput([InputFault(f"/{number}/input", "a number in it is too large")]) from None
