"""Reads a submit: body and headers of this request become a Submission."""

from flask import request

from tidegate.errors import BodyTooLarge
from tidegate.intake.submission import Submission
from tidegate.webhooks.delivery import Webhook
from webapp.context import gateway
from webapp.http.auth import caller
from webapp.http.documents import absolute
from webapp.http.submit_headers import check_not_encoded, submission_of, traceparent_in, webhook_in

SMALL_BODY = 16_384
"""The most that a body may have which is no job input."""
JOB_INPUTS = frozenset({"jobs.submit", "batch.submit"})
"""The routes, by endpoint, whose bodies are jobs' inputs: as large as the setting and the operation say."""


def submission(operation: str) -> Submission:
    """What this request submits. Raises InvalidHeader for a header of the contract that can't be read."""
    client_id = caller().client_id  # first: without a key nothing is told about the rest
    return submission_of(request.headers, whole_body(), operation, client_id, absolute(""))


def webhook() -> Webhook | None:
    """Where the ends of the request's jobs are to be told."""
    return webhook_in(request.headers, absolute(""))


def traceparent() -> str | None:
    """The trace that the request belongs to."""
    return traceparent_in(request.headers)


def bound_body() -> None:
    """Before each request: what is no job input is small, whatever reads it. Werkzeug refuses by the Content-Length."""
    most = gateway().settings.max_body
    if request.endpoint not in JOB_INPUTS:
        most = min(most, SMALL_BODY)
    request.max_content_length = most


def whole_body() -> bytes:
    """The request's body, whole: what was cut off on its way must not become a job. Asks for a key before it reads."""
    client_id = caller().client_id
    check_not_encoded(request.headers)
    return read_body(client_id)


def read_body(client_id: str) -> bytes:
    """The request's body, whole, while others have its turn. `client_id`: whose body it is, or `STRANGER`.

    Raises BodyTooLarge beforehand, BodyTooSlow, TooManyBodies, and ClientDisconnected for one that breaks off.
    """
    length, most = request.content_length or 0, request.max_content_length or 0
    if length > most:
        raise BodyTooLarge(f"at most {most} bytes are taken here")
    own = gateway()
    with own.turns.given_up():
        return own.bodies.read(request.environ, client_id, length)
