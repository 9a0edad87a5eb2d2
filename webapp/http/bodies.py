"""Reads the body of a request in Flask: bounded by route, whole, and while other requests are worked on."""

from flask import request

from tidegate.errors import BodyTooLarge
from webapp.context import context
from webapp.http.auth import caller
from webapp.http.submit_headers import check_not_encoded

SMALL_BODY = 16_384
"""The most that a body may have which is no job input."""
JOB_INPUTS = frozenset({"jobs.submit", "bulk.submit", "bulk.submit_batch"})
"""The routes, by endpoint, whose bodies are jobs' inputs: as large as the setting and the operation say."""


def bound_body() -> None:
    """Limits the body before each request: only inputs of jobs may be large. Werkzeug checks the Content-Length."""
    most = context().settings.max_body
    if request.endpoint not in JOB_INPUTS:
        most = min(most, SMALL_BODY)
    request.max_content_length = most


def whole_body() -> bytes:
    """Reads the request's body in full, after authentication; one that was cut off must not become a job."""
    client_id = caller().client_id
    check_not_encoded(request.headers)
    return read_body(client_id)


def read_body(client_id: str) -> bytes:
    """Reads the request's body in full, while other requests are worked on. `client_id`: its sender, or `STRANGER`.

    Raises BodyTooLarge beforehand, BodyTooSlow, TooManyBodies, and ClientDisconnected for one that breaks off.
    """
    length, most = request.content_length or 0, request.max_content_length or 0
    if length > most:
        raise BodyTooLarge(f"at most {most} bytes are taken here")
    own = context()
    with own.turns.given_up():
        return own.bodies.read(request.environ, client_id, length)
