"""Schema Objects of the OpenAPI document: documents from their types, operations' inputs from their declarations."""

import re
from functools import cache
from typing import Any, TypeAlias

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from tidegate.operations.operation import Operation
from webapp.http import lane_shapes, shapes, webhook_shapes
from webapp.openapi.problem_types import JOB_ENDS, PROBLEM_TYPES
from webapp.resources import batch, bulk, deliveries, downstreams, webhook_secrets

Node: TypeAlias = dict[str, Any]
"""A part of the description, which is JSON."""

SCHEMAS = "#/components/schemas/"
_ANSWERS = (
    shapes.JobList,
    shapes.JobProblem,
    shapes.Problem,
    shapes.BatchAnswers,
    shapes.CancelCounts,
    shapes.RetryCounts,
    shapes.Health,
    shapes.Readiness,
    lane_shapes.OperationList,
    lane_shapes.DownstreamList,
    webhook_shapes.DeliveryList,
    webhook_shapes.SendCounts,
    webhook_shapes.WebhookSecretList,
    webhook_shapes.NewWebhookSecret,
    webhook_shapes.WebhookEvent,
)
_REQUESTS = (batch.Item, bulk.Selection, downstreams.Change, deliveries.Sending, webhook_secrets.Rotation)


class _WithoutTitles(GenerateJsonSchema):
    """A schema generator without titles: pydantic would repeat each member's name as its title."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def schemas(operations: list[Operation]) -> Node:
    """All schemas under components/schemas."""
    inputs: Node = {}
    for operation in operations:
        inputs |= _input_schemas(operation)
    return _own_schemas() | inputs


def ref(name: str, **narrowed: Any) -> Node:
    """A reference to a schema; `narrowed`: properties that are narrower here."""
    properties = {"properties": narrowed} if narrowed else {}
    return {"$ref": SCHEMAS + name, **properties}


def input_ref(operation: Operation) -> Node | None:
    """A reference to the operation's input schema; None: it takes any bytes."""
    return None if operation.input_schema() is None else ref(f"{operation.name}.input")


@cache
def _own_schemas() -> Node:
    adapters: list[tuple[Any, Any, TypeAdapter[Any]]] = [
        *((shape, "serialization", TypeAdapter[Any](shape)) for shape in _ANSWERS),
        *((model, "validation", TypeAdapter[Any](model)) for model in _REQUESTS),
    ]
    _, generated = TypeAdapter.json_schemas(adapters, ref_template=SCHEMAS + "{model}", schema_generator=_WithoutTitles)
    own: Node = generated["$defs"]
    for schema in own.values():
        schema.pop("title", None)  # the name it is listed under
    ends = {end.uri for end in JOB_ENDS.values()}
    own["Problem"]["properties"]["type"]["enum"] = [each.uri for each in PROBLEM_TYPES if each.uri not in ends]
    own["JobProblem"]["properties"]["type"]["enum"] = sorted(ends)
    return dict(sorted(own.items()))


def _input_schemas(operation: Operation) -> Node:
    """The operation's input as `<operation>.input`, its $defs beside it as `<operation>.<Name>`."""
    schema = operation.input_schema()
    if schema is None:
        return {}
    moved = _moved(dict(schema), f"{SCHEMAS}{operation.name}.")
    definitions = moved.pop("$defs", {})
    return {
        f"{operation.name}.input": moved,
        **{f"{operation.name}.{name}": definition for name, definition in definitions.items()},
    }


def _moved(node: Any, target: str) -> Any:
    """The schema with its references, and a discriminator's, rewritten to where its definitions are moved."""
    match node:
        case dict():
            return {key: _moved(value, target) for key, value in node.items()}
        case list():
            return [_moved(value, target) for value in node]
        case str():
            return re.sub(r"^#/\$defs/", target, node)
        case _:
            return node
