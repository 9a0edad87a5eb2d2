"""What there is to submit to."""

from typing import Any

from flask import Blueprint, Response

from tidegate.operations import Operation
from webapp import gateway
from webapp.documents import absolute, json_answer

routes = Blueprint("operations", __name__, url_prefix="/v1/operations")


@routes.get("")
def listing() -> Response:
    """Every operation."""
    return json_answer({"operations": [_document(operation) for operation in gateway().registry.operations.values()]})


@routes.get("/<name>")
def read(name: str) -> Response:
    """One operation."""
    return json_answer(_document(gateway().registry.operation(name)))


def _document(operation: Operation) -> dict[str, Any]:
    limits = gateway().registry.downstreams[operation.downstream]
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
        "downstream": {
            "name": limits.name,
            "rate": list(limits.rates),
            "burst": limits.burst,
            "concurrency": limits.concurrency,
        },
        "links": {"submit": absolute(f"/v1/operations/{operation.name}/jobs")},
    }
