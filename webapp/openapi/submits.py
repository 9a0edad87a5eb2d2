"""The OpenAPI paths of submits: one for each operation, with its own input, texts and limits."""

from dataclasses import replace

from tidegate.operations.operation import Operation
from tidegate.operations.python_operation import JSON
from webapp.openapi.parameters import job_timeout, parameter
from webapp.openapi.route import BAD_JSON, RequestBody, Route
from webapp.openapi.schemas import Node, input_ref


def submit_route(route: Route, operation: Operation) -> Route:
    """The description of this operation's submit, made of that of every submit."""
    return replace(
        route,
        id=f"{route.id}.{operation.name}",
        body=_body(operation),
        refusals=route.refusals if operation.input_schema() is None else route.refusals + BAD_JSON,
    )


def submit_texts(route: Route, operation: Operation) -> Node:
    """The operation's own summary, description and parameters."""
    first, _, rest = operation.description.partition("\n")
    return {
        "summary": first or operation.name,
        "description": rest.strip(),
        "parameters": [job_timeout(operation), *map(parameter, route.parameters)],
    }


def _body(operation: Operation) -> RequestBody:
    schema, size = input_ref(operation), f"{operation.max_body:,} bytes"
    content_types = operation.content_types
    if schema is not None:
        content = {content_type: {"schema": schema} for content_type in content_types or [JSON]}
        return RequestBody(node={"description": f"At most {size}.", "required": True, "content": content})
    # An operation that takes any content type also takes a body without one, and an empty body.
    return RequestBody(
        node={
            "description": f"At most {size}, passed on as they are.",
            "required": bool(content_types),
            "content": {content_type: {} for content_type in content_types or ["*/*"]},
        }
    )
