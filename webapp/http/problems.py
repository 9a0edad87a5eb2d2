"""Every error as application/problem+json (RFC 9457): what is refused, what is not there, what went wrong here."""

import logging
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import orjson
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from tidegate import errors
from tidegate.database.connection import UNREACHABLE
from tidegate.metrics.families import REFUSALS as REFUSALS_COUNTED
from tidegate.timeformat import instant
from webapp.context import gateway
from webapp.http.answers import PROBLEM, problem_document
from webapp.http.shapes import Fault, Problem

log = logging.getLogger(__name__)

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

REFUSALS: dict[type[errors.Refusal], tuple[int, str, str]] = {
    errors.UnknownOperation: (404, "unknown-operation", "There is no such operation"),
    errors.UnknownJob: (404, "unknown-job", "There is no such job"),
    errors.UnsupportedBody: (415, "unsupported-media-type", "The operation does not take this content type"),
    errors.MalformedBody: (400, "malformed-body", "The body is not JSON"),
    errors.InvalidInput: (422, "invalid-input", "The input breaks the operation's schema"),
    errors.InvalidHeader: (400, "invalid-header", "A header can't be used"),
    errors.InvalidWebhook: (422, "invalid-webhook", "The webhook can't be used"),
    errors.UnknownDelivery: (404, "unknown-delivery", "There is no such delivery"),
    errors.DeliveryNotDue: (409, "delivery-not-due", "There is nothing to send yet"),
    errors.UnknownSecret: (404, "unknown-secret", "There is no such secret"),
    errors.BodyTooLarge: (413, "body-too-large", "The body is too large"),
    errors.BodyTooSlow: (408, "body-too-slow", "The body came too slowly"),
    errors.LengthRequired: (411, "length-required", "The body needs a Content-Length"),
    errors.FieldsTooLarge: (431, "fields-too-large", "The request's head is too large"),
    errors.InvalidQuery: (400, "invalid-query", "A query parameter can't be used"),
    errors.IdempotencyConflict: (422, "idempotency-conflict", "The Idempotency-Key was used for another request"),
    errors.JobErased: (410, "job-erased", "The job was deleted"),
    errors.Unauthorized: (401, "unauthorized", "A key is needed"),
    errors.Forbidden: (403, "forbidden", "The key may not do this"),
    errors.UnknownHost: (421, "misdirected-request", "This host is not this gateway's"),
    errors.TooFast: (429, "too-fast", "Too many requests"),
    errors.TooManyBodies: (429, "too-many-bodies", "Too many bodies at once"),
    errors.ShareUsed: (429, "share-used", "This client has its share"),
    errors.JobNotFinal: (409, "job-not-final", "The job still goes on"),
    errors.JobAlreadyFinal: (409, "job-already-final", "The job has already ended"),
    errors.UnknownDownstream: (404, "unknown-downstream", "There is no such downstream"),
    errors.CannotFinishInTime: (503, "cannot-finish-in-time", "The job could not be done before its deadline"),
    errors.NoRoom: (503, "no-room", "No more requests are held open just now"),
    errors.Overloaded: (503, "overloaded", "Too many requests are under way"),
    errors.TooSlow: (503, "too-slow", "The question takes too long"),
    errors.Unavailable: (503, "unavailable", "Nothing can be recorded just now"),
}
"""Every refusal with its status, the end of its type URI, and its title. README documents each."""
OUTCOME_UNKNOWN = ("outcome-unknown", "It is not known whether it was done")
INTERNAL_ERROR = ("internal-error", "Something went wrong here")


def problem(
    name: str, title: str, status: int, detail: str, more: Mapping[str, Any] | None = None, **headers: str
) -> Response:
    """A problem document; `more` are its further members."""
    document = {**problem_document(name, title, status, detail, request.path), **(more or {})}
    response = Response(orjson.dumps(document, default=str), status, content_type=PROBLEM)
    for header, value in headers.items():
        response.headers[header.replace("_", "-")] = value
    return response


def register(app: Flask) -> None:
    """Makes every error of the application a problem document."""
    app.register_error_handler(errors.Refusal, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(413, _too_large)
    for kind in UNREACHABLE:
        app.register_error_handler(kind, _unreachable)
    app.register_error_handler(errors.DatabaseTooSlowError, _too_slow)
    app.register_error_handler(Exception, _unexpected)


def refusal_document(refusal: errors.Refusal) -> Problem:
    """The problem document of a refusal."""
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
    """For the metrics."""
    _count(REFUSALS[type(refusal)][1])


def _count(reason: str) -> None:
    own, operation = gateway(), (request.view_args or {}).get("operation", "")
    # A name that somebody made up would be a series of its own.
    own.store.counts.add(REFUSALS_COUNTED, operation if operation in own.registry.operations else "", reason)


def http_error_name(error: HTTPException) -> str:
    """The end of the type URI of an error of Flask's own."""
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


def retry_after_seconds(refusal: errors.Refusal) -> int | None:
    """Whole seconds after which the same may be taken; None: never."""
    match refusal:
        case (
            errors.Unavailable()
            | errors.TooFast()
            | errors.ShareUsed()
            | errors.CannotFinishInTime()
            | errors.NoRoom()
            | errors.TooSlow()
        ):
            return _seconds(refusal.retry_after)
        case _:
            return None


def _seconds(duration: timedelta) -> int:
    return max(1, math.ceil(duration.total_seconds()))


def _http_error(error: HTTPException) -> Response:
    """Flask's own: no such route, wrong method, a body that was cut off."""
    status = error.code or 500
    _count(http_error_name(error))
    response = problem(http_error_name(error), error.name, status, error.description or error.name)
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def _too_large(_error: HTTPException) -> Response:
    """Flask's own for a Content-Length that is too large, told as ours is."""
    return _refused(errors.BodyTooLarge(f"at most {request.max_content_length} bytes are taken here"))


def _unreachable(error: Exception) -> Response:
    log.warning("%s %s: the database can't be reached: %s", request.method, request.path, error)
    if request.method in _SAFE:
        return _refused(errors.Unavailable("the database does not answer; try again"))
    if not may_be_done(error):
        return _refused(errors.Unavailable("the database can't take it just now; nothing was recorded, try again"))
    _count(OUTCOME_UNKNOWN[0])
    retry_after = str(_seconds(errors.Unavailable.retry_after))
    return problem(*OUTCOME_UNKNOWN, 503, _how_to_find_out(), Retry_After=retry_after)


def may_be_done(error: Exception) -> bool:
    """Whether what was asked may be recorded although the database did not say so."""
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
