"""The routes of operations: list the kinds of job, read one with its input schema and expected wait."""

from flask import Blueprint, Response

from tidegate.dispatch.lane_view import LaneView
from tidegate.errors import UnknownOperation
from tidegate.operations.operation import Operation
from webapp.context import context
from webapp.http import lane_shapes
from webapp.http.auth import caller
from webapp.http.documents import absolute, json_answer
from webapp.openapi.answers import Document, links
from webapp.openapi.route import described

routes = Blueprint("operations", __name__, url_prefix="/v1/operations")


@routes.get("")
@described(
    id="listOperations",
    tag="Operations",
    answers=Document(
        "Every operation.",
        lane_shapes.OperationList,
        links=links("readOperation", parameters={"name": "$response.body#/operations/0/name"}),
    ),
)
def listing() -> Response:
    """Lists every operation."""
    caller()
    operations = context().registry.operations.values()
    document: lane_shapes.OperationList = {"operations": [_document(operation) for operation in operations]}
    return json_answer(document)


@routes.get("/<name>")
@described(
    id="readOperation",
    tag="Operations",
    answers=Document("The operation.", lane_shapes.Operation),
    parameters=("operation_name",),
    refusals=(UnknownOperation,),
)
def read(name: str) -> Response:
    """Reads one operation."""
    caller()
    return json_answer(_document(context().registry.operation(name)))


def _document(operation: Operation) -> lane_shapes.Operation:
    lane = context().lanes.view(operation.downstream)
    limits = lane.downstream.limits if lane else context().registry.downstreams[operation.downstream]
    batch = operation.batch
    return {
        "name": operation.name,
        "description": operation.description,
        "input_schema": operation.input_schema(),
        "max_body": operation.max_body,
        "timeout": operation.timeout.total_seconds(),
        "attempt_timeout": operation.attempt_timeout.total_seconds(),
        "retry": {
            "attempts": operation.retry.attempts,
            "delay": operation.retry.delay.total_seconds(),
            "max_delay": operation.retry.max_delay.total_seconds(),
            "on": sorted(operation.retry.on),
        },
        "batch": None
        if batch is None
        else {"max": batch.max, "linger": batch.linger.total_seconds(), "max_bytes": batch.max_bytes},
        "downstream": {
            "name": limits.name,
            "rate": list(limits.rates),
            "burst": limits.burst,
            "concurrency": limits.concurrency,
        },
        "backlog": lane.sample.backlog if lane and lane.sample else 0,
        "released_per_second": lane.jobs_per_second if lane and lane.sample and lane.sample.backlog else None,
        "expected_wait": _expected_wait(lane, operation.queue),
        "links": {"submit": absolute(f"/v1/operations/{operation.name}/jobs")},
    }


def _expected_wait(lane: LaneView | None, queue: str) -> float | None:
    """Seconds that a job submitted now would wait for its start; None: can't be told."""
    if lane is None:
        return None
    now = lane.downstream.seen_at
    start = lane.start_of(now, now, queue=queue)
    return round((start - now).total_seconds(), 3) if start else None
