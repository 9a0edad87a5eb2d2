"""Schema Objects of the OpenAPI document: documents from their types, operations' inputs from their declarations."""

import re
from collections.abc import Iterable
from functools import cache
from operator import attrgetter
from typing import Any, TypeAlias

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from tidegate.operations.operation import Operation
from webapp.http import shapes, webhook_shapes
from webapp.openapi.problem_types import JOB_ENDS, PROBLEM_TYPES

Node: TypeAlias = dict[str, Any]
"""A part of the description, which is JSON."""

SCHEMAS = "#/components/schemas/"
# Documents that no description of a route names: problems, and what webhooks send.
_OF_NO_ROUTE = frozenset({shapes.JobProblem, shapes.Problem, webhook_shapes.WebhookEvent})
_NAME = attrgetter("__name__")


class _WithoutTitles(GenerateJsonSchema):
    """A schema generator without titles: pydantic would repeat each member's name as its title."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def schemas(operations: list[Operation], answers: Iterable[type], requests: Iterable[type[BaseModel]]) -> Node:
    """All schemas under components/schemas: inputs of operations, answers and requests of routes."""
    inputs: Node = {}
    for operation in operations:
        inputs |= _input_schemas(operation)
    return _own_schemas(_OF_NO_ROUTE.union(answers), frozenset(requests)) | inputs


def ref(name: str, **narrowed: Any) -> Node:
    """A reference to a schema; `narrowed`: properties that are narrower here."""
    properties = {"properties": narrowed} if narrowed else {}
    return {"$ref": SCHEMAS + name, **properties}


def input_ref(operation: Operation) -> Node | None:
    """A reference to the operation's input schema; None: it takes any bytes."""
    return None if operation.input_schema() is None else ref(f"{operation.name}.input")


@cache
def _own_schemas(answers: frozenset[type], requests: frozenset[type[BaseModel]]) -> Node:
    adapters: list[tuple[Any, Any, TypeAdapter[Any]]] = [
        *((shape, "serialization", TypeAdapter[Any](shape)) for shape in sorted(answers, key=_NAME)),
        *((model, "validation", TypeAdapter[Any](model)) for model in sorted(requests, key=_NAME)),
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
