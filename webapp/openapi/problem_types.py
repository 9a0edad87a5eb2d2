"""Every problem type (RFC 9457) that the API answers with: those of Refusals, of jobs' ends, of Flask's own errors."""

import inspect
from dataclasses import dataclass

from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound

from tidegate.errors import Refusal
from tidegate.states import State
from webapp.http.answers import HTTP_STATUS, PROBLEM_TYPE_PREFIX, TITLES
from webapp.http.problems import INTERNAL_ERROR, OUTCOME_UNKNOWN, http_error_name
from webapp.http.refusals import REFUSALS


@dataclass(frozen=True, kw_only=True)
class ProblemType:
    """A problem type. `name` is the last part of its URI, `meaning` a sentence."""

    status: int
    name: str
    title: str
    meaning: str

    @property
    def uri(self) -> str:
        """The `type` of its problem documents."""
        return PROBLEM_TYPE_PREFIX + self.name


def _of_flask(error: type[HTTPException], meaning: str) -> ProblemType:
    return ProblemType(
        status=error.code or 500, name=http_error_name(error()), title=error().name or "", meaning=meaning
    )


def _meaning(refusal: type[Refusal]) -> str:
    """The first sentence of a Refusal's docstring; what stands behind a semicolon is for those who raise it."""
    return (inspect.getdoc(refusal) or "").split("\n\n")[0].partition(";")[0].rstrip(".") + "."


REFUSED: dict[type[Refusal], ProblemType] = {
    refusal: ProblemType(status=status, name=name, title=title, meaning=_meaning(refusal))
    for refusal, (status, name, title) in REFUSALS.items()
}
JOB_ENDS: dict[State, ProblemType] = {
    state: ProblemType(status=HTTP_STATUS[state], name=f"job-{state}", title=title, meaning=meaning)
    for (state, title), meaning in zip(
        TITLES.items(),
        (
            "The job's deadline passed without a result.",
            "The operation or its downstream gave a final error, or every attempt was used up; `error` says which.",
            "The job was called off before it had a result.",
        ),
        strict=True,
    )
}
BAD_REQUEST = _of_flask(BadRequest, "The request is broken, or its body ended before its declared length.")
NOT_FOUND = _of_flask(NotFound, "There is no such path; an id that is no UUID makes one.")
METHOD_NOT_ALLOWED = _of_flask(MethodNotAllowed, "The path has other methods; `Allow` names them.")
INTERNAL = ProblemType(
    status=500, name=INTERNAL_ERROR[0], title=INTERNAL_ERROR[1], meaning="A fault of the gateway, which is logged."
)
UNKNOWN = ProblemType(
    status=503,
    name=OUTCOME_UNKNOWN[0],
    title=OUTCOME_UNKNOWN[1],
    meaning="The database went away before it answered: repeat the request, a submit under its Idempotency-Key.",
)

PROBLEM_TYPES = sorted(
    {*REFUSED.values(), *JOB_ENDS.values(), BAD_REQUEST, NOT_FOUND, METHOD_NOT_ALLOWED, INTERNAL, UNKNOWN},
    key=lambda problem: (problem.status, problem.name),
)
