"""Flask error handlers: every error that a view raises is answered by `problems.answer_to_error`."""

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from tidegate.errors import BodyTooLarge, Refusal
from webapp.context import context
from webapp.http.documents import response_of
from webapp.http.problems import answer_to_error, count_problem
from webapp.http.refusals import REFUSALS


def register(app: Flask) -> None:
    """Registers the error handlers of the application."""
    app.register_error_handler(Exception, _failed)
    app.register_error_handler(413, _too_large)


def count_refusal(refusal: Refusal) -> None:
    """Counts a refusal that is a part of this request's answer for the metrics."""
    count_problem(context(), REFUSALS[type(refusal)][1], _operation())


def _failed(error: Exception) -> Response:
    answer = answer_to_error(
        error,
        context(),
        method=request.method,
        path=request.path,
        operation=_operation(),
        has_key="Idempotency-Key" in request.headers,
    )
    return response_of(answer)


def _too_large(_error: HTTPException) -> Response:
    """Answers Werkzeug's own error for a Content-Length that is too large as our BodyTooLarge."""
    return _failed(BodyTooLarge(f"at most {request.max_content_length} bytes are taken here"))


def _operation() -> str:
    """The name of an operation in this request's path."""
    name: str = (request.view_args or {}).get("operation", "")
    return name
