"""HTML responses of the live page: their security headers, values for every template, and error pages."""

import logging
from typing import Any

from flask import Blueprint, Response, g, redirect, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from tidegate import errors
from tidegate.access.keys import Role
from tidegate.database.connection import UNREACHABLE
from webapp.context import context
from webapp.http.problems import INTERNAL_ERROR, may_be_done
from webapp.http.refusals import REFUSALS
from webapp.page.session import comes_from_elsewhere

log = logging.getLogger(__name__)

# Scripts, styles and forms of this origin only, nothing inline; no site may frame the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)


def page(template: str, status: int = 200, **values: Any) -> Response:
    """Renders a template as an HTML response that no shared cache keeps."""
    known = g.get("caller")
    html = render_template(
        f"page/{template}.html",
        root=root(),
        has_keys=context().authenticator is not None,
        is_signed_in=known is not None,
        role=known.role if known else Role.OPERATOR,
        **values,
    )
    response = Response(html, status, content_type="text/html; charset=utf-8")
    response.headers["Cache-Control"] = "private, no-cache"
    return secured(response)


def secured(response: Response) -> Response:
    """Sets the page's own security policy. Not "no-referrer": Origin would be "null", and forms are checked by it."""
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "same-origin"
    response.vary.add("Cookie")
    return response


def root() -> str:
    """The relative path from this request's path to the overview: right below any prefix."""
    return "../" * (request.path.count("/") - 1) or "./"


def see(path: str = "") -> AnyResponse:
    """The redirect (303) after a form: the browser reads this page next."""
    return redirect(root() + path, 303)


def register(routes: Blueprint) -> None:
    """Registers error handlers that answer with a page."""
    routes.register_error_handler(errors.Refusal, _refused)
    routes.register_error_handler(HTTPException, _http_error)
    for kind in UNREACHABLE:
        routes.register_error_handler(kind, _unreachable)
    routes.register_error_handler(errors.DatabaseTooSlowError, _too_slow)
    routes.register_error_handler(Exception, _unexpected)


def _refused(refusal: errors.Refusal) -> AnyResponse:
    status, _, title = REFUSALS[type(refusal)]
    match refusal:
        case errors.Unauthorized() if comes_from_elsewhere():
            return page("arriving")
        case errors.Unauthorized() if request.method == "GET" and request.accept_mimetypes.accept_html:
            job_page = request.path.removeprefix("/") if request.endpoint == "page.job" else ""
            return redirect(root() + "sign-in" + (f"?next={job_page}" if job_page else ""), 303)
        case errors.Forbidden():
            title, detail = "This is not allowed", str(refusal)
        case errors.InvalidInput():
            return page("error", status, title=title, detail=_count_of(refusal), faults=refusal.faults)
        case _:
            detail = str(refusal)
    return page("error", status, title=title, detail=detail)


def _count_of(refusal: errors.InvalidInput) -> str:
    """How many faults there are, where that says more than the faults themselves."""
    return f"{str(refusal).capitalize()}:" if refusal.count > 1 else ""


def _http_error(error: HTTPException) -> Response:
    return page("error", error.code or 500, title=error.name, detail=error.description or "")


def _unreachable(error: Exception) -> Response:
    log.warning("%s %s: the database can't be reached: %s", request.method, request.path, error)
    detail = "Nothing is lost: jobs that were accepted go on when it is back, and so does this page."
    if may_be_done(error):
        detail = "What you asked for may be done, or not: look before you ask again."
    again = request.method == "GET"
    response = page("error", 503, title="The database does not answer", detail=detail, try_again=again)
    response.headers["Retry-After"] = "5"
    return response


def _too_slow(error: Exception) -> Response:
    log.warning("%s %s: %s", request.method, request.path, error)
    _, _, title = REFUSALS[errors.TooSlow]
    return page("error", 503, title=title, detail="The database took too long to find this. Ask for less.")


def _unexpected(error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return page("error", 500, title=INTERNAL_ERROR[1], detail="The error is logged.")
