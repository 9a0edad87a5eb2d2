"""The routes of the API's description: OpenAPI for programs at /openapi.json, a page for people at /docs."""

import re

from flask import Blueprint, Response, current_app, render_template
from markupsafe import Markup, escape

from webapp.context import context
from webapp.http.documents import absolute, json_answer
from webapp.openapi import openapi
from webapp.openapi.docs_page import page_of

routes = Blueprint("docs", "webapp", static_folder="static", static_url_path="/static", template_folder="templates")

# The page loads its own style sheet and nothing else.
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@routes.get("/openapi.json")
def document() -> Response:
    """Returns the OpenAPI document."""
    return json_answer(openapi(current_app, context(), absolute("")))


@routes.get("/docs")
def page() -> Response:
    """Shows the OpenAPI document as a page without scripts."""
    description = openapi(current_app, context(), absolute(""))
    html = render_template("docs.html", page=page_of(description))
    response = Response(html, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@routes.app_template_filter()
def coded(text: str) -> Markup:
    """Template filter: text between backticks becomes <code>."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped the line before


@routes.app_template_filter()
def breakable(path: str) -> Markup:
    """Template filter: a path that may break into lines after each slash."""
    return Markup("/<wbr>").join(path.split("/"))
