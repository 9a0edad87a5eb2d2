"""Reads a submit: body and headers of this request become a Submission."""

from flask import request

from tidegate.delivery import Webhook
from tidegate.errors import BodyTooLarge
from tidegate.submission import Submission
from webapp import gateway
from webapp.auth import caller
from webapp.documents import absolute
from webapp.submit_headers import check_whole, submission_of, traceparent_in, webhook_in

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
    # One more than is taken: a chunked body is cut off there without a word, and the one byte tells.
    request.max_content_length = most + 1


def whole_body() -> bytes:
    """The request's body, whole: what was cut off on its way must not become a job."""
    content = request.get_data(cache=False)
    most = (request.max_content_length or 0) - 1
    if len(content) > most:
        raise BodyTooLarge(f"at most {most} bytes are taken here")
    check_whole(content, request.content_length, request.headers)
    return content
