"""The description of the API: every route is in it, it is valid, and the file in docs/ is the same."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.test import TestResponse

from tests.support.described import FILE, PAGES, as_text, shipped
from tests.support.reference import DOCS, made_anew
from tests.support.web import OPERATIONS, Web
from webapp.http.answers import HTTP_STATUS, PROBLEM_TYPE_PREFIX
from webapp.http.refusals import REFUSALS
from webapp.openapi import UNDESCRIBED, openapi
from webapp.openapi.problem_types import PROBLEM_TYPES
from webapp.openapi.schemas import BYTES

METHODS = {"get", "post", "put", "patch", "delete"}
EVERYTHING = {"submit_limit": "100/s", "poll_limit": "100/s", "auth": "keys"}


def web_with(folder: Path, url: str, **settings: Any) -> Web:
    """The application with an operation that has a rich schema."""
    return Web(folder, url, operations=("tests.support.typed_operations",), **settings)


@pytest.fixture
def described(tmp_path: Path, sqlite_url: str) -> Iterator[Web]:
    """The application without keys."""
    web = web_with(tmp_path, sqlite_url)
    yield web
    web.close()


def document_of(web: Web) -> dict[str, Any]:
    """What /openapi.json says."""
    answer = web.client.get("/openapi.json")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    document: dict[str, Any] = answer.get_json()
    return document


def routes_of(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Every Operation Object by method and path."""
    return {(method, path): route for path, item in document["paths"].items() for method, route in item.items()}


def followed(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """What a reference names."""
    for part in node.get("$ref", "#")[2:].split("/"):
        node = document if part == "components" else node
        node = node[part] if part else node
    return node


@pytest.mark.parametrize("settings", [{}, EVERYTHING])
def test_it_is_valid_openapi(tmp_path: Path, sqlite_url: str, settings: dict[str, str]) -> None:
    web = web_with(tmp_path, sqlite_url, **settings)
    OpenAPIV31SpecValidator(document_of(web)).validate()
    web.close()


def test_the_file_in_docs_is_what_the_shipped_gateway_says() -> None:
    told = "run: python -m tests.support.described"
    assert FILE.read_text(encoding="utf-8") == as_text(shipped()), told


def test_the_page_in_docs_has_every_type_of_problem() -> None:
    told = "run: python -m tests.support.described"
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert page == made_anew("api.md", PAGES["api.md"]), told
    assert [line.split("`")[1] for line in page.splitlines() if "| `urn:tidegate:problem:" in line] == [
        problem.uri for problem in PROBLEM_TYPES
    ]


def test_every_route_of_the_application_is_described(described: Web) -> None:
    expected = set()
    for rule in described.app.url_map.iter_rules():
        if rule.endpoint.partition(".")[0] in UNDESCRIBED:
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        names = described.app.extensions["tidegate"].registry.operations if rule.endpoint == "jobs.submit" else [""]
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            expected |= {(method.lower(), path.replace("{operation}", name) if name else path) for name in names}
    assert set(routes_of(document_of(described))) == expected


def test_a_view_without_a_description_is_an_error_that_names_its_endpoint(described: Web) -> None:
    described.app.add_url_rule("/v1/forgotten", "jobs.forgotten", lambda: "")
    with described.app.test_request_context(), pytest.raises(LookupError, match=r"jobs\.forgotten"):
        openapi(described.app, described.app.extensions["tidegate"], "http://localhost")


def test_each_operation_has_its_own_path_with_its_own_body(described: Web) -> None:
    document = document_of(described)
    bodies = {
        path.split("/")[3]: route["requestBody"]["content"]
        for (_, path), route in routes_of(document).items()
        if path.endswith("/jobs") and path.startswith("/v1/operations/")
    }
    assert bodies["order"] == {"application/json": {"schema": {"$ref": "#/components/schemas/order_input"}}}
    assert bodies["quote"] == {"application/json": {"schema": {}}, "*/*": {"schema": BYTES}}
    assert set(bodies["csv_profile"]) == {
        "text/csv",
        "application/csv",
        "text/tab-separated-values",
        "text/plain",
        "application/octet-stream",
    }


def test_an_input_schema_still_judges_after_its_definitions_were_moved(described: Web) -> None:
    document = document_of(described)
    schema = {**document["components"]["schemas"]["order_input"], "components": document["components"]}
    good = {"part": {"sku": "A", "parts": [{"sku": "B"}]}, "payment": {"kind": "transfer", "days": 30}}
    jsonschema.validate(good, schema)
    for bad in ({"kind": "transfer", "days": 91}, {"kind": "cash"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, "payment": bad}, schema)
    mapping = schema["properties"]["payment"]["discriminator"]["mapping"]
    assert mapping["card"] == "#/components/schemas/order_Card"


def test_no_reference_leads_nowhere(described: Web) -> None:
    document = document_of(described)
    for reference in re.findall(r'"(#/[^"]+)"', json.dumps(document)):
        followed(document, {"$ref": reference})


def test_every_problem_type_is_named_by_a_schema(described: Web) -> None:
    schemas = document_of(described)["components"]["schemas"]
    named = {
        *schemas["Problem"]["properties"]["type"]["enum"],
        *schemas["JobProblem"]["properties"]["type"]["enum"],
    }
    assert named >= {PROBLEM_TYPE_PREFIX + name for _, name, _ in REFUSALS.values()}
    assert named == {problem.uri for problem in PROBLEM_TYPES}


def test_a_read_has_every_status_of_the_state_table(described: Web) -> None:
    answers = document_of(described)["paths"]["/v1/jobs/{job_id}"]["get"]["responses"]
    assert set(answers) >= {str(status) for status in HTTP_STATUS.values()} | {"304", "404", "405", "503"}


def test_a_submit_links_to_all_that_can_be_done_with_its_job(described: Web) -> None:
    document = document_of(described)
    ids = {route["operationId"] for route in routes_of(document).values()}
    links = document["paths"]["/v1/operations/order/jobs"]["post"]["responses"]["202"]["links"]
    assert set(links) == {"readJob", "readResult", "cancelJob", "retryJob", "deleteJob"} <= ids


def test_keys_and_limits_are_described_only_where_they_are_on(tmp_path: Path, described: Web, sqlite_url: str) -> None:
    free = document_of(described)
    assert "securitySchemes" not in free["components"]
    assert "401" not in {status for route in routes_of(free).values() for status in route["responses"]}
    assert "too-fast" not in free["components"]["responses"], "only too many bodies at once"
    for (method, _), route in routes_of(free).items():
        assert "421" in route["responses"]
        assert ("403" in route["responses"]) is (method != "get"), "what another site sends"

    (tmp_path / "keys").mkdir()
    guarded = web_with(tmp_path / "keys", sqlite_url, **EVERYTHING)
    document = document_of(guarded)
    guarded.close()
    assert document["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    submit = document["paths"]["/v1/operations/quote/jobs"]["post"]
    assert {"401", "429"} <= set(submit["responses"])
    assert "RateLimit" in submit["responses"]["202"]["headers"]
    assert "403" in document["paths"]["/v1/downstreams"]["get"]["responses"]
    assert not any("421" in route["responses"] for route in routes_of(document).values())
    assert document["paths"]["/health/live"]["get"]["security"] == []


def test_every_described_route_that_needs_a_key_refuses_without_one(tmp_path: Path, sqlite_url: str) -> None:
    web = web_with(tmp_path, sqlite_url, auth="keys")
    for (method, path), route in routes_of(document_of(web)).items():
        filled = re.sub(r"{(job|secret)_id}", "0199c5a0-0000-7000-8000-000000000000", path)
        filled = filled.replace("{operation}", "order")
        answer: TestResponse = web.client.open(filled.replace("{name}", "order"), method=method)
        assert (answer.status_code == 401) is bool(route["security"]), f"{method} {path}: {answer.status_code}"
    web.close()


@pytest.mark.parametrize(
    ("settings", "server"),
    [({}, "http://localhost"), ({"public_url": "https://a.example/jobs/"}, "https://a.example/jobs")],
)
def test_its_server_is_the_public_url(tmp_path: Path, sqlite_url: str, settings: dict[str, str], server: str) -> None:
    web = web_with(tmp_path, sqlite_url, **settings)
    assert document_of(web)["servers"] == [{"url": server}]
    web.close()


class _Assets(HTMLParser):
    """Collects what a page loads or runs, its anchors and its links within."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        self.anchors |= {values["id"] or ""} if "id" in values else set()
        self.loaded += [values[name] or "" for name in ("src", "srcset") if name in values]
        if tag == "link":
            self.loaded.append(values["href"] or "")
        if tag == "a":
            self.links.add(values["href"] or "")


def test_the_docs_page_shows_everything_and_loads_nothing_but_its_own_style(described: Web) -> None:
    answer = described.client.get("/docs")
    text = answer.get_data(as_text=True)
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self';")
    found = _Assets()
    found.feed(text)
    assert found.loaded == ["static/theme.css", "static/docs.css"]
    assert not found.tags & {"script", "style", "iframe", "form"}
    assert " style=" not in text
    assert {link.removeprefix("#") for link in found.links if link.startswith("#")} <= found.anchors
    for path in document_of(described)["paths"]:
        assert path in text.replace("<wbr>", "")
    for problem in PROBLEM_TYPES:
        assert f"problem-{problem.name}" in found.anchors
    style = described.client.get("/static/docs.css", buffered=True)
    assert (style.status_code, style.mimetype) == (200, "text/css")
    assert not re.findall(r"url\(|@import", style.get_data(as_text=True))


def test_what_an_operation_says_of_itself_is_text_and_no_markup(tmp_path: Path, sqlite_url: str) -> None:
    hostile = Web(tmp_path, sqlite_url, operations_toml=OPERATIONS.replace("A price.", "<script>`<b>`</script>"))
    text = hostile.client.get("/docs").get_data(as_text=True)
    hostile.close()
    assert "<script>" not in text
    assert "&lt;script&gt;<code>&lt;b&gt;</code>" in text
