"""What the log lines of a request are about: its job and its trace."""

from flask import Flask, request

from tidegate.log_context import now_about, trace_id
from webapp.http.submitting import traceparent


def register(app: Flask) -> None:
    """Says it before each request and forgets it afterwards: threads serve others next."""
    app.before_request(_begin)
    app.teardown_request(lambda _error: now_about())


def _begin() -> None:
    job_id = (request.view_args or {}).get("job_id")
    now_about(job_id=str(job_id) if job_id else None, trace_id=trace_id(traceparent()))
