"""Flask error handlers: every error becomes a problem document, application/problem+json (RFC 9457)."""

import logging
from collections.abc import Mapping
from typing import Any

import orjson
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from tidegate import errors
from tidegate.database.connection import UNREACHABLE
from tidegate.metrics.families import REFUSALS as REFUSALS_COUNTED
from tidegate.timeformat import instant
from webapp.context import context
from webapp.http.answers import PROBLEM, problem_document
from webapp.http.refusals import REFUSALS, retry_after_seconds, whole_seconds
from webapp.http.shapes import Fault, Problem

log = logging.getLogger(__name__)

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

OUTCOME_UNKNOWN = ("outcome-unknown", "It is not known whether it was done")
INTERNAL_ERROR = ("internal-error", "Something went wrong here")


def problem(
    name: str, title: str, status: int, detail: str, more: Mapping[str, Any] | None = None, **headers: str
) -> Response:
    """Makes a response with a problem document; `more`: its further members."""
    document = {**problem_document(name, title, status, detail, request.path), **(more or {})}
    response = Response(orjson.dumps(document, default=str), status, content_type=PROBLEM)
    for header, value in headers.items():
        response.headers[header.replace("_", "-")] = value
    return response


def register(app: Flask) -> None:
    """Registers the error handlers of the application."""
    app.register_error_handler(errors.Refusal, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(413, _too_large)
    for kind in UNREACHABLE:
        app.register_error_handler(kind, _unreachable)
    app.register_error_handler(errors.DatabaseTooSlowError, _too_slow)
    app.register_error_handler(Exception, _unexpected)


def refusal_document(refusal: errors.Refusal) -> Problem:
    """The problem document of a Refusal."""
    status, name, title = REFUSALS[type(refusal)]
    document = problem_document(name, title, status, str(refusal), request.path)
    match refusal:
        case errors.InvalidInput():
            document["errors"] = [Fault(pointer=fault.pointer, detail=fault.detail) for fault in refusal.faults]
        case errors.InvalidWebhook():
            document["errors"] = [Fault(header="Webhook-Url", detail=str(refusal))]
        case errors.CannotFinishInTime():
            document["earliest_finish"] = instant(refusal.earliest_finish)
        case _:
            pass
    return document


def count_refusal(refusal: errors.Refusal) -> None:
    """Counts a refusal for the metrics."""
    _count(REFUSALS[type(refusal)][1])


def _count(reason: str) -> None:
    own, operation = context(), (request.view_args or {}).get("operation", "")
    # An operation's name that a client made up must not become a label.
    own.store.counts.add(REFUSALS_COUNTED, operation if operation in own.registry.operations else "", reason)


def http_error_name(error: HTTPException) -> str:
    """The last part of the type URI of one of Flask's own errors."""
    return (error.name or "error").lower().replace(" ", "-")


def _refused(refusal: errors.Refusal) -> Response:
    count_refusal(refusal)
    document = refusal_document(refusal)
    response = Response(orjson.dumps(document), document["status"], content_type=PROBLEM)
    match refusal:
        case errors.Unauthorized():
            response.headers["WWW-Authenticate"] = 'Bearer realm="tidegate"'
        case _:
            pass
    later = retry_after_seconds(refusal)
    if later is not None:
        response.headers["Retry-After"] = str(later)
    return response


def _http_error(error: HTTPException) -> Response:
    """Answers one of Flask's own errors: no such route, wrong method, a body that was cut off."""
    status = error.code or 500
    _count(http_error_name(error))
    response = problem(http_error_name(error), error.name, status, error.description or error.name)
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def _too_large(_error: HTTPException) -> Response:
    """Answers Flask's own error for a Content-Length that is too large as our BodyTooLarge."""
    return _refused(errors.BodyTooLarge(f"at most {request.max_content_length} bytes are taken here"))


def _unreachable(error: Exception) -> Response:
    log.warning("%s %s: the database can't be reached: %s", request.method, request.path, error)
    if request.method in _SAFE:
        return _refused(errors.Unavailable("the database does not answer; try again"))
    if not may_be_done(error):
        return _refused(errors.Unavailable("the database can't take it just now; nothing was recorded, try again"))
    _count(OUTCOME_UNKNOWN[0])
    retry_after = str(whole_seconds(errors.Unavailable.retry_after))
    return problem(*OUTCOME_UNKNOWN, 503, _how_to_find_out(), Retry_After=retry_after)


def may_be_done(error: Exception) -> bool:
    """Whether the write may be committed although the database's answer was lost."""
    return isinstance(error, errors.DatabaseUnreachableError) and error.may_be_done


def _how_to_find_out() -> str:
    lost = "the database went away before it answered: this may have been recorded, or not"
    if request.method == "POST" and "Idempotency-Key" in request.headers:
        return f"{lost}; repeat it under the same Idempotency-Key, which makes no second job"
    if request.method == "POST" and not request.path.endswith("/cancel"):
        return f"{lost}; look before you repeat it; under an Idempotency-Key a repeat makes no second job"
    return f"{lost}; repeat it, which does no harm"


def _too_slow(error: Exception) -> Response:
    log.warning("%s %s: %s", request.method, request.path, error)
    return _refused(errors.TooSlow("the database took too long to find this; ask for less, by a narrower filter"))


def _unexpected(error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    _count(INTERNAL_ERROR[0])
    return problem(*INTERNAL_ERROR, 500, "the error is logged; nothing more is told")
