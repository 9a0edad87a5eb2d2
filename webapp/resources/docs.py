"""The description of the API: for programs at /openapi.json, for people at /docs."""

import re

from flask import Blueprint, Response, current_app, render_template
from markupsafe import Markup, escape

from webapp.context import gateway
from webapp.http.documents import absolute, json_answer
from webapp.openapi import openapi
from webapp.openapi.docs_page import page_of

routes = Blueprint("docs", "webapp", static_folder="static", static_url_path="/static", template_folder="templates")

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
    html = render_template("docs.html", page=page_of(description))
    response = Response(html, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@routes.app_template_filter()
def coded(text: str) -> Markup:
    """What stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped the line before


@routes.app_template_filter()
def breakable(path: str) -> Markup:
    """A path that may go on in the next line after each slash."""
    return Markup("/<wbr>").join(path.split("/"))
