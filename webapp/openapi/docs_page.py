"""The data of the docs page, taken from the OpenAPI document: references resolved, schemas as tables."""

import json
import shlex
from dataclasses import dataclass
from typing import Any

from tidegate.states import State
from webapp.http.answers import HTTP_STATUS
from webapp.openapi.problem_types import JOB_ENDS, PROBLEM_TYPES, ProblemType
from webapp.openapi.schemas import SCHEMAS, Node

_MEANINGS = {
    State.QUEUED: "Accepted; it waits for its turn or for another attempt. Ask again after `Retry-After` seconds.",
    State.RUNNING: "An attempt is under way. Ask again after `Retry-After` seconds.",
    State.SUCCEEDED: "Done; the result is in the body, and as it is under `/result`.",
    **{state: end.meaning for state, end in JOB_ENDS.items()},
}


@dataclass(frozen=True, kw_only=True)
class Member:
    """A parameter, header, or member of a document, for a table row. `link`: the schema that its type names."""

    name: str
    type: str
    link: str | None
    place: str
    required: bool
    description: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One response of a route. `problems`: names of the problem types that it may have; `example`: a body."""

    status: str
    description: str
    headers: list[str]
    body: Member | None
    problems: list[str]
    example: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One route of the docs page."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[Member]
    bodies: list[Member]
    answers: list[Answer]
    problems: list[Answer]
    command: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """The routes of one tag."""

    name: str
    description: str
    entries: list[Entry]


@dataclass(frozen=True, kw_only=True)
class Page:
    """All data of the docs page."""

    title: str
    description: str
    server: str
    has_keys: bool
    states: list[tuple[str, int, str]]
    sections: list[Section]
    schemas: dict[str, tuple[str, str, list[Member]]]
    problems: list[ProblemType]


def page_of(document: Node) -> Page:
    """Makes the docs page's data of an OpenAPI document."""
    return Page(
        title=document["info"]["title"],
        description=document["info"]["description"],
        server=document["servers"][0]["url"],
        has_keys="securitySchemes" in document["components"],
        states=[(state.value, HTTP_STATUS[state], _MEANINGS[state]) for state in State],
        sections=[
            Section(name=tag["name"], description=tag["description"], entries=_entries(document, tag["name"]))
            for tag in document["tags"]
        ],
        schemas={
            name: (schema.get("description", ""), _type(schema)[0], _members(schema))
            for name, schema in document["components"]["schemas"].items()
        },
        problems=PROBLEM_TYPES,
    )


def _entries(document: Node, tag: str) -> list[Entry]:
    return [
        _entry(document, method.upper(), path, route)
        for path, routes in document["paths"].items()
        for method, route in routes.items()
        if tag in route["tags"]
    ]


def _entry(document: Node, method: str, path: str, route: Node) -> Entry:
    parameters = [_followed(document, each) for each in route.get("parameters", [])]
    answers = [_answer(document, status, each) for status, each in route["responses"].items()]
    return Entry(
        id=route["operationId"],
        method=method,
        path=path,
        summary=route.get("summary", ""),
        description=route.get("description", ""),
        parameters=[_member(each["name"], each["schema"], each.get("required"), each) for each in parameters],
        bodies=_bodies(route),
        answers=[answer for answer in answers if not answer.problems],
        problems=[answer for answer in answers if answer.problems],
        command=_command(document, method, path, route),
    )


def _bodies(route: Node) -> list[Member]:
    body = route.get("requestBody", {"content": {}})
    return [
        _member(content_type, content.get("schema", {}), body.get("required"), body)
        for content_type, content in body["content"].items()
    ]


def _answer(document: Node, status: str, node: Node) -> Answer:
    response = _followed(document, node)
    contents: Node = response.get("content", {})
    content_type = next(iter(contents), "")
    content: Node = contents.get(content_type, {})
    schema: Node = content.get("schema", {})
    is_refusal = schema.get("$ref") == SCHEMAS + "Problem"
    example = next(iter(content.get("examples", {}).values()), None)
    return Answer(
        status=status,
        description=response["description"],
        headers=list(response.get("headers", {})),
        body=_member(content_type, schema, None, {}) if content_type else None,
        problems=[uri.rpartition(":")[2] for uri in schema["properties"]["type"]["enum"]] if is_refusal else [],
        example=json.dumps(example["value"], indent=2) if example and not is_refusal else "",
    )


def _members(schema: Node) -> list[Member]:
    required = schema.get("required", [])
    return [_member(name, each, name in required, each) for name, each in schema.get("properties", {}).items()]


def _member(name: str, schema: Node, required: bool | None, told: Node) -> Member:
    text, link = _type(schema)
    return Member(
        name=name,
        type=text,
        link=link,
        place=told.get("in", ""),
        required=bool(required),
        description=told.get("description", ""),
    )


def _type(schema: Node) -> tuple[str, str | None]:
    """A schema's type in words, and the schema that it names."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(SCHEMAS)
        return name, name
    if "anyOf" in schema or "oneOf" in schema:
        kinds = [_type(each) for each in schema.get("anyOf") or schema["oneOf"]]
        return " or ".join(text for text, _ in kinds), next((link for _, link in kinds if link), None)
    if schema.get("type") == "array":
        text, link = _type(schema.get("items", {}))
        return f"array of {text}", link
    if "enum" in schema or "const" in schema:
        return " | ".join(json.dumps(each) for each in schema.get("enum", [schema.get("const")])), None
    text = schema.get("format") or schema.get("type", "anything")
    return f"{text}{_bounds(schema)}", None


def _bounds(schema: Node) -> str:
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if lowest is None and highest is None:
        return ""
    return f", {lowest} to {highest}" if None not in (lowest, highest) else f", at least {lowest}"


def _command(document: Node, method: str, path: str, route: Node) -> str:
    words = ["curl", "-i"] + (["-X", method] if method != "GET" else [])
    if route.get("security", document.get("security")):
        words += ["-H", "Authorization: Bearer KEY"]
    for content_type, content in list(route.get("requestBody", {"content": {}})["content"].items())[:1]:
        schema = _followed(document, content.get("schema", {}))
        is_json = content_type.endswith("json") or content_type == "*/*"
        words += ["-H", f"Content-Type: {'application/json' if content_type == '*/*' else content_type}"]
        words += ["--data-binary" if not is_json else "-d", _example_body(schema, is_json=is_json)]
    return " ".join(shlex.quote(word) for word in [*words, document["servers"][0]["url"] + path])


def _example_body(schema: Node, *, is_json: bool) -> str:
    if schema.get("examples"):
        return json.dumps(schema["examples"][0])
    return "@body.json" if is_json else "@body"


def _followed(document: Node, node: Node) -> Node:
    """Resolves a $ref, whose target may itself be one."""
    while "$ref" in node:
        found: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node
