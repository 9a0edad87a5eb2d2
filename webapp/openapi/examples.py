"""Example Objects of the OpenAPI document: made-up jobs, written by the code that writes real ones."""

from datetime import UTC, datetime, timedelta

from tidegate.jobs.job import Job, Wait, Waiting
from tidegate.operations.sharing import USUAL_PRIORITY
from tidegate.states import State
from webapp.http.answers import PROBLEM
from webapp.http.documents import job_document
from webapp.openapi.problem_types import JOB_ENDS, ProblemType
from webapp.openapi.schemas import Node

_JOB_ID = "0199c5a0-7a5e-7cc0-8d9a-3f1c2b4d5e6f"
_CREATED_AT = datetime(2026, 11, 23, 16, 46, 0, 123000, UTC)
_ERROR = {
    "code": "downstream_error",
    "message": "the downstream answered 400",
    "downstream_status": 400,
    "downstream_content_type": "application/json",
    "downstream_body": '{"error": "unknown sku"}',
}
_WAITING = Waiting(
    reason=Wait.PACE,
    position=37,
    estimated_start=_CREATED_AT + timedelta(seconds=2),
    estimated_finish=_CREATED_AT + timedelta(seconds=3),
)


def job_example(state: State) -> Node:
    """A job document in this state, as an Example Object."""
    return {str(state): {"value": _document(state)}}


def job_problem_example(state: State) -> Node:
    """The problem of a job that ended without a result, as an Example Object."""
    document = _document(state)
    problem = _problem(JOB_ENDS[state], document["error"]["message"], f"/v1/jobs/{_JOB_ID}")
    return {str(state): {"value": problem | document}}


def problem_examples(problems: list[ProblemType]) -> Node:
    """A problem document of each type, as Example Objects."""
    return {each.name: {"value": _problem(each, each.meaning, "/v1/jobs")} for each in problems}


def problem_content(schema: Node, examples: Node) -> Node:
    """The content of a response that is a problem."""
    return {PROBLEM: {"schema": schema, "examples": examples}}


def _document(state: State) -> Node:
    document: Node = {**job_document(_job(state), waiting=_WAITING if state is State.QUEUED else None)}
    result = {"result": {"price": 29.97}, "result_content_type": "application/json"}
    return document | result if state is State.SUCCEEDED else document


def _problem(problem: ProblemType, detail: str, instance: str) -> Node:
    return {
        "type": problem.uri,
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "instance": instance,
    }


def _job(state: State) -> Job:
    began = None if state is State.QUEUED else _CREATED_AT + timedelta(seconds=2)
    return Job(
        id=_JOB_ID,
        client_id="example",
        partition=None,
        priority=USUAL_PRIORITY,
        operation="quote",
        downstream="sample",
        queue="io",
        state=state,
        version=3,
        created_at=_CREATED_AT,
        run_at=_CREATED_AT,
        deadline=_CREATED_AT + timedelta(minutes=2),
        started_at=began,
        finished_at=_CREATED_AT + timedelta(seconds=4) if state.is_final else None,
        slot_at=None,
        attempt=0 if state is State.QUEUED else 1,
        max_attempts=5,
        waits_for=None,
        cancel_requested=False,
        percent={State.SUCCEEDED: 100, State.RUNNING: 40}.get(state, 0),
        done=2 if state is State.RUNNING else None,
        total=5 if state is State.RUNNING else None,
        note=None,
        error=_ERROR if state is State.FAILED else None,
        traceparent=None,
        retry_of=None,
        has_webhook=False,
        batch=None,
        seen_at=_CREATED_AT,
    )
