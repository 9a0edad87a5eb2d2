"""Refusals before Flask: problem documents as plain WSGI answers."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson

from tidegate.errors import Refusal
from webapp.app import SECURITY_HEADERS
from webapp.http.answers import PROBLEM, problem_document
from webapp.http.problems import REFUSALS, retry_after_seconds

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


@dataclass(frozen=True, kw_only=True)
class RefusalAnswer:
    """What is answered. `name`: the end of the problem's type."""

    status: int
    name: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def status_line(self) -> str:
        """For start_response."""
        return f"{self.status} {HTTPStatus(self.status).phrase.upper()}"


def refusal_answer(refusal: Refusal, environ: "WSGIEnvironment") -> RefusalAnswer:
    """The answer to this request."""
    status, name, title = REFUSALS[type(refusal)]
    document = problem_document(name, title, status, str(refusal), environ.get("PATH_INFO") or "/")
    body = orjson.dumps(document)
    headers = [*SECURITY_HEADERS.items(), ("Content-Type", PROBLEM), ("Content-Length", str(len(body)))]
    later = retry_after_seconds(refusal)
    if later is not None:
        headers.append(("Retry-After", str(later)))
    return RefusalAnswer(status=status, name=name, headers=headers, body=body)
