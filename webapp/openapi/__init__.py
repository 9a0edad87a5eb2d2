"""Generates the OpenAPI 3.1 document from the routes, the operations, and the types and tables of the code.

What can't be read off them stands beside each view function, in `@described(...)`. The rest follows by itself: a new
operation has its path, a new kind of refusal its problem type, a new member of a document its schema.
"""

import inspect
import re
from collections.abc import Iterable, Iterator

from flask import Flask
from werkzeug.routing import Rule

from tidegate.operations.operation import Operation
from webapp.context import Context
from webapp.openapi.answers import Problems, either
from webapp.openapi.names import Names
from webapp.openapi.parameters import HEADERS, PARAMETERS, limit_headers, operation_name, parameter
from webapp.openapi.problem_types import METHOD_NOT_ALLOWED
from webapp.openapi.route import Route, route_of
from webapp.openapi.schemas import InputSchemas, Node, own_schemas
from webapp.openapi.submits import submit_route, submit_texts
from webapp.openapi.webhook import job_ended

API_VERSION = "1"
"""That of the contract, as in its paths."""
UNDESCRIBED = frozenset({"docs", "page"})
"""Blueprints that are no part of the API: what is there for people, and this description."""
_AUTOMATIC = frozenset({"HEAD", "OPTIONS"})
_KEY = "key"
_TAGS = {
    "Operations": "What there is to do, and how to submit it.",
    "Jobs": "Read, call off, try again, erase.",
    "Many jobs": "Bulk submits, and an operator's tools for a bad day.",
    "Webhooks": "Being told a job's end: secrets, and what was sent.",
    "Downstreams": "What each limited system may get; for operators.",
    "Health": "For load balancers, supervisors and Prometheus.",
}
_DESCRIPTION = """\
`POST` answers before the work is done; one absolute URL, `Location`, then tells everything about the job: 202 while it
goes on, 200 with its result, 504 when it did not finish in time, 502 when it failed, 410 when it was called off.

Every error is a problem document (RFC 9457). Every path answers `OPTIONS`, and `HEAD` where it answers `GET`.
"""


def openapi(app: Flask, context: Context, base_url: str) -> Node:
    """Makes the OpenAPI document, whose server is `base_url`.

    Needs the application's context, for the links in its examples.
    """
    operations = [*context.registry.operations.values()]
    rules = _described(app)
    documents = own_schemas(
        answers={route.answer_shape for _, route in rules if route.answer_shape},
        requests={route.request_model for _, route in rules if route.request_model},
    )
    inputs = InputSchemas(operations, taken=documents)
    writer = _Writer(context)
    paths: Node = {}
    for rule, route in rules:
        summary = (inspect.getdoc(app.view_functions[rule.endpoint]) or "").split("\n")[0]
        for path, own, texts in _paths(rule, route, summary, operations, inputs):
            for method in sorted(set(rule.methods or ()) - _AUTOMATIC):
                paths.setdefault(path, {})[method.lower()] = writer.route(method, own, **texts)
    parameters = PARAMETERS | {
        "operation_name": operation_name("name", operations),
        "operation_of_bulk": operation_name("operation", operations),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tidegate", "version": API_VERSION, "description": _DESCRIPTION},
        "servers": [{"url": base_url}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "paths": dict(sorted(paths.items())),
        "webhooks": {"jobEnded": {"post": job_ended()}},
        "components": {
            "schemas": documents | inputs.schemas,
            "responses": dict(sorted(writer.problems.components.items())),
            "parameters": parameters,
            "headers": HEADERS,
            **({"securitySchemes": {_KEY: {"type": "http", "scheme": "bearer"}}} if writer.has_keys else {}),
        },
    }


def _described(app: Flask) -> list[tuple[Rule, Route]]:
    """Every rule of the API with the description of its view; raises LookupError for a view without one.

    Submits come last: no operation's name changes the id of another route.
    """
    described = [
        (rule, route_of(app, rule.endpoint))
        for rule in app.url_map.iter_rules()
        if rule.endpoint.partition(".")[0] not in UNDESCRIBED
    ]
    return sorted(described, key=lambda each: each[1].of_each_operation)


def _paths(
    rule: Rule, route: Route, summary: str, operations: Iterable[Operation], inputs: InputSchemas
) -> Iterator[tuple[str, Route, Node]]:
    """The paths that stand for a rule, one or one for each operation, with each one's description and texts."""
    if route.of_each_operation:
        for each in operations:
            path = rule.rule.replace("<operation>", each.name)
            yield path, submit_route(route, each, inputs), submit_texts(route, each)
    else:
        yield _path(rule), route, {"summary": summary, "parameters": [*map(parameter, route.parameters)]}


class _Writer:
    """Writes Operation Objects for one gateway."""

    def __init__(self, context: Context) -> None:
        self.has_keys = context.authenticator is not None
        self.problems = Problems()
        self._ids = Names()
        self._settings = context.settings

    def route(self, method: str, route: Route, **texts: object) -> Node:
        """Makes the Operation Object of one route."""
        limits = limit_headers(self._settings, route.counted)
        answers = route.answers()
        for answer in answers.values():
            answer["headers"] = {**answer.get("headers", {}), **limits}
        problems = route.problems(is_safe=method == "GET", has_keys=self.has_keys, has_limit=bool(limits))
        refused = self.problems.of({*problems, METHOD_NOT_ALLOWED}, limits)
        responses = answers | refused
        for status in answers.keys() & refused.keys():
            responses[status] = either(answers[status], self.problems.followed(refused[status]))
        security: Node = {"security": [{_KEY: []}] if route.needs != "nothing" else []} if self.has_keys else {}
        return {
            "operationId": self._ids.new(route.id),
            "tags": [route.tag],
            **({"deprecated": True} if route.is_deprecated else {}),
            **{name: text for name, text in texts.items() if text},
            **({"requestBody": route.body.node} if route.body else {}),
            "responses": dict(sorted(responses.items())),
            **security,
        }


def _path(rule: Rule) -> str:
    """A Werkzeug path as OpenAPI writes it: <uuid:job_id> becomes {job_id}."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
