"""Adds the job and trace of a request to its log lines."""

from flask import Flask, request

from tidegate.log_context import now_about, trace_id
from webapp.http.submit_headers import traceparent_in


def register(app: Flask) -> None:
    """Sets the log context before each request and clears it afterwards, for threads serve other requests next."""
    app.before_request(_begin)
    app.teardown_request(lambda _error: now_about())


def _begin() -> None:
    job_id = (request.view_args or {}).get("job_id")
    now_about(job_id=str(job_id) if job_id else None, trace_id=trace_id(traceparent_in(request.headers)))
