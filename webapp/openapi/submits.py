"""The OpenAPI paths of submits: one for each operation, with its own input, texts and limits."""

from dataclasses import replace

from tidegate.operations.operation import JSON, Operation
from webapp.openapi.parameters import job_timeout, parameter, passed_headers
from webapp.openapi.route import BAD_JSON, RequestBody, Route
from webapp.openapi.schemas import BYTES, InputSchemas, Node


def submit_route(route: Route, operation: Operation, inputs: InputSchemas) -> Route:
    """The description of this operation's submit, made of that of every submit."""
    is_read = operation.input_schema() is not None or operation.batch is not None
    return replace(
        route,
        id=f"{route.id}.{operation.name}",
        body=_body(operation, inputs.ref(operation)),
        refusals=route.refusals + BAD_JSON if is_read else route.refusals,
    )


def submit_texts(route: Route, operation: Operation) -> Node:
    """The operation's own summary, description and parameters."""
    first, _, rest = operation.description.partition("\n")
    return {
        "summary": first or operation.name,
        "description": rest.strip(),
        "parameters": [job_timeout(operation), *map(parameter, route.parameters), *passed_headers(operation)],
    }


def _body(operation: Operation, schema: Node | None) -> RequestBody:
    size, content_types = f"{operation.max_body:,} bytes", operation.content_types
    if schema is not None:
        content = {content_type: {"schema": schema} for content_type in content_types or [JSON]}
        return RequestBody(node={"description": f"At most {size}.", "required": True, "content": content})
    # An operation that takes any content type also takes a body without one, and an empty body. JSON is named beside it
    # for generators: they know what to do with that, and make nothing of a submit that has no content type they know.
    anything = {JSON: {"schema": {}}, "*/*": {"schema": BYTES}}
    return RequestBody(
        node={
            "description": f"At most {size}, passed on as they are.",
            "required": bool(content_types),
            "content": {content_type: {"schema": BYTES} for content_type in content_types} or anything,
        }
    )
