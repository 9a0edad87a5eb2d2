"""The OpenAPI paths of submits: one for each operation, with its own input, texts and limits."""

from tidegate.operations.operation import Operation
from tidegate.operations.python_operation import JSON
from webapp.openapi import answers
from webapp.openapi.parts import job_timeout, parameter
from webapp.openapi.route import Route, json_body
from webapp.openapi.routes import BAD_JSON, SUBMIT_REFUSALS
from webapp.openapi.schemas import Node, input_ref

_PARAMETERS = ("Idempotency-Key", "Job-Not-Before", "Prefer", "Webhook-Url", "traceparent")


def submit_route(operation: Operation) -> Route:
    """The Route of this operation's submit."""
    refusals = SUBMIT_REFUSALS if operation.input_schema() is None else SUBMIT_REFUSALS + BAD_JSON
    return Route(
        writes=True,
        id=f"submit.{operation.name}",
        tag="Operations",
        answers=answers.submitted,
        parameters=_PARAMETERS,
        body=_body(operation),
        refusals=refusals,
        counted="submits",
    )


def submit_texts(operation: Operation) -> Node:
    """The operation's own summary, description and parameters."""
    first, _, rest = operation.description.partition("\n")
    return {
        "summary": first or operation.name,
        "description": rest.strip(),
        "parameters": [job_timeout(operation), *map(parameter, _PARAMETERS)],
    }


def _body(operation: Operation) -> Node:
    schema, size = input_ref(operation), f"{operation.max_body:,} bytes"
    content_types = operation.content_types
    if schema is not None:
        return {"description": f"At most {size}.", **json_body(schema, *(content_types or [JSON]))}
    # An operation that takes any content type also takes a body without one, and an empty body.
    return {
        "description": f"At most {size}, passed on as they are.",
        "required": bool(content_types),
        "content": {content_type: {} for content_type in content_types or ["*/*"]},
    }
