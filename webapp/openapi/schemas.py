"""Schema Objects of the OpenAPI document: documents from their types, operations' inputs from their declarations."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from operator import attrgetter
from typing import Any, TypeAlias

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from tidegate.operations.operation import Operation
from webapp.http import shapes, webhook_shapes
from webapp.openapi.names import Names
from webapp.openapi.problem_types import JOB_ENDS, PROBLEM_TYPES

Node: TypeAlias = dict[str, Any]
"""A part of the description, which is JSON."""

SCHEMAS = "#/components/schemas/"
BYTES: Node = {"type": "string", "format": "binary"}
"""The schema of a body of any bytes, as generators know it."""
# Documents that no description of a route names: problems, and what webhooks send.
_OF_NO_ROUTE = frozenset({shapes.JobProblem, shapes.Problem, webhook_shapes.WebhookEvent})
_NAME = attrgetter("__name__")
_DEFINITION = re.compile(r"^#/\$defs/([^/]+)")
# Keywords of JSON Schema with values instead of schemas, and with schemas, or references, by names that authors chose.
_ITSELF = "#"
_VALUES = frozenset({"const", "default", "enum", "examples"})
_BY_NAME = frozenset({"dependentSchemas", "mapping", "patternProperties", "properties"})


class _WithoutTitles(GenerateJsonSchema):
    """A schema generator without titles: pydantic would repeat each member's name as its title."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def own_schemas(answers: Iterable[type], requests: Iterable[type[BaseModel]]) -> Node:
    """The schemas of answers and requests of routes, of problems and of webhooks, by name."""
    return _own_schemas(_OF_NO_ROUTE.union(answers), frozenset(requests))


def ref(name: str, **narrowed: Any) -> Node:
    """A reference to a schema; `narrowed`: properties that are narrower here."""
    properties = {"properties": narrowed} if narrowed else {}
    return {"$ref": SCHEMAS + name, **properties}


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


class InputSchemas:
    """The schemas of operations' inputs: `<operation>_input`, and beside it each of its $defs as `<operation>_<Name>`.

    Without dots, which generators take for modules. Without titles: generators name classes by them, and two operations
    may both call their input `Params`.
    """

    def __init__(self, operations: Iterable[Operation], taken: Iterable[str]) -> None:
        """`taken`: names of other schemas."""
        names = Names(taken)
        schemas = {each.name: schema for each in operations if (schema := each.input_schema()) is not None}
        self._inputs = {operation: names.new(f"{operation}_input") for operation in schemas}
        self.schemas: Node = {}
        for operation, schema in schemas.items():
            self._add(operation, schema, names)

    def ref(self, operation: Operation) -> Node | None:
        """A reference to the operation's input schema; None: it takes any bytes."""
        name = self._inputs.get(operation.name)
        return None if name is None else ref(name)

    def _add(self, operation: str, schema: Mapping[str, Any], names: Names) -> None:
        definitions = schema.get("$defs", {})
        places = {name: names.new(f"{operation}_{name}") for name in definitions}
        own = {key: value for key, value in schema.items() if key not in {"$defs", "$schema"}}
        places[_ITSELF] = self._inputs[operation]
        self.schemas[places[_ITSELF]] = _moved(own, places)
        self.schemas |= {places[name]: _moved(definition, places) for name, definition in definitions.items()}


def _moved(node: Any, places: Mapping[str, str]) -> Any:
    """The schema without titles, its references and a discriminator's rewritten to where its definitions are moved."""
    match node:
        case dict():
            return {key: _member(key, value, places) for key, value in node.items() if key != "title"}
        case list():
            return [_moved(value, places) for value in node]
        case str():
            return _DEFINITION.sub(lambda found: SCHEMAS + places.get(found[1], found[1]), node)
        case _:
            return node


def _member(keyword: str, value: Any, places: Mapping[str, str]) -> Any:
    """The value of a schema's keyword: what is no schema stays, and a name is never taken for a keyword."""
    if keyword in _VALUES:
        return value
    if keyword == "$ref" and not _DEFINITION.match(value):
        return SCHEMAS + places[_ITSELF] + value.removeprefix("#")
    if keyword in _BY_NAME and isinstance(value, dict):
        return {name: _moved(each, places) for name, each in value.items()}
    return _moved(value, places)
