"""Many jobs in one request: a JSON array or NDJSON, each job taken or refused for itself, or all or none."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

import orjson
from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tidegate.errors import InvalidQuery, Refusal, UnsupportedBody
from tidegate.job import Job
from tidegate.operations import Body
from tidegate.python_operation import parse
from tidegate.submission import Submission
from webapp import gateway, shapes
from webapp.auth import caller
from webapp.documents import absolute, job_document, job_path, json_answer
from webapp.errors import refusal_document
from webapp.limits import count
from webapp.submitting import idempotency_key, traceparent, whole_body

routes = Blueprint("batch", __name__, url_prefix="/v1")

MOST_JOBS = 1000
NDJSON = "application/x-ndjson"


class Item(BaseModel):
    """One job of a batch: its input, and what headers say of a single one."""

    model_config = ConfigDict(extra="forbid")

    input: Any
    idempotency_key: str | None = None
    timeout: Annotated[int, Field(ge=1, le=999_999_999)] | None = None


_ITEMS = TypeAdapter(Annotated[list[Item], Field(min_length=1, max_length=MOST_JOBS)])


@routes.post("/operations/<operation>/jobs/batch")
def submit(operation: str) -> Response:
    """Up to 1,000 jobs of one operation. `?all_or_none=true`: one refusal refuses all."""
    gateway().registry.operation(operation)
    submissions = list(_submissions(operation))
    for _ in submissions:
        count(gateway().submit_limit, "submits")
    jobs = gateway().jobs
    answers = jobs.submit_all(submissions) if _all_or_none() else jobs.submit_each(submissions)
    document: shapes.BatchAnswers = {"jobs": [_answer(answer) for answer in answers]}
    return json_answer(document, 202)


def _answer(answer: Job | Refusal) -> shapes.BatchAnswer:
    if isinstance(answer, Refusal):
        problem = refusal_document(answer)
        return {"status": problem["status"], "location": None, "job": None, "problem": problem}
    document = job_document(answer, waiting=gateway().jobs.waiting(answer))
    return {"status": 202, "location": absolute(job_path(answer)), "job": document, "problem": None}


def _submissions(operation: str) -> Iterator[Submission]:
    trace = traceparent()
    for item in parse(_ITEMS, _as_array(whole_body())):
        yield Submission(
            operation=operation,
            body=Body(content=orjson.dumps(item.input), content_type="application/json"),
            client_id=caller().client_id,
            timeout=None if item.timeout is None else timedelta(seconds=item.timeout),
            idempotency_key=idempotency_key(item.idempotency_key),
            traceparent=trace,
        )


def _all_or_none() -> bool:
    flag = request.args.get("all_or_none", "false")
    if flag not in {"true", "false"}:
        raise InvalidQuery("all_or_none: true or false")
    return flag == "true"


def _as_array(content: bytes) -> bytes:
    """JSON as it came; NDJSON as an array of its lines."""
    match request.mimetype:
        case "application/json":
            return content
        case "application/x-ndjson" | "application/jsonl":
            return b"[" + b",".join(line for line in content.splitlines() if line.strip()) + b"]"
        case other:
            raise UnsupportedBody(f"a batch is application/json or {NDJSON}, not {other or 'an unnamed type'}")
