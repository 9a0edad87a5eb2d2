"""The description of the API: for programs at /openapi.json, for people at /docs."""

from flask import Blueprint, Response, current_app, render_template

from webapp import gateway
from webapp.docs_page import page_of
from webapp.documents import absolute, json_answer
from webapp.openapi import openapi

routes = Blueprint("docs", __name__, static_folder="static", static_url_path="/static", template_folder="templates")

# Its own style sheet, and nothing else, from anywhere.
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@routes.get("/openapi.json")
def document() -> Response:
    """The OpenAPI document."""
    return json_answer(openapi(current_app, gateway(), absolute("")))


@routes.get("/docs")
def page() -> Response:
    """The same as a page: no script, nothing from elsewhere."""
    description = openapi(current_app, gateway(), absolute(""))
    response = Response(render_template("docs.html", page=page_of(description)), content_type="text/html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response
