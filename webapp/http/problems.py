"""Answers to errors: every exception becomes a problem document, application/problem+json (RFC 9457). Without Flask."""

import logging
import re

import orjson
from werkzeug.exceptions import HTTPException

from tidegate import errors
from tidegate.database.connection import UNREACHABLE
from tidegate.metrics.families import REFUSALS as REFUSALS_COUNTED
from webapp.context import Context
from webapp.http.answers import PROBLEM, Answer, problem_document
from webapp.http.refusals import REFUSALS, refusal_answer, whole_seconds

log = logging.getLogger(__name__)

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

OUTCOME_UNKNOWN = ("outcome-unknown", "It is not known whether it was done")
INTERNAL_ERROR = ("internal-error", "Something went wrong here")
_JOB = re.compile(r"/v1/jobs/([^/]{1,100})")
_DETAILS = {
    400: "the request can't be read as HTTP's rules have it",
    404: "nothing is at this path; /openapi.json lists every path there is",
    405: "this path does not take this method; the header Allow has those that it takes",
    406: "nothing here has a type that Accept allows",
    415: "the body has a type that is not taken here",
    416: "there is no such range",
}
_LOGGED = "the error is logged; nothing more is told"


def answer_to_error(
    error: Exception, own: Context, *, method: str, path: str, operation: str = "", has_key: bool = False
) -> Answer:
    """Makes the answer to a request that failed; counts it for the metrics, and logs what is not the client's fault.

    `operation`: the name in its path. `has_key`: whether it came with an Idempotency-Key.
    """
    match error:
        case errors.Refusal():
            name, answer = _refused(error, path)
        case errors.DatabaseTooSlowError():
            log.warning("%s %s: %s", method, path, error)
            name, answer = _refused(
                errors.TooSlow("the database took too long to find this; ask for less, by a narrower filter"), path
            )
        case HTTPException():
            name, answer = _http_error(error, path)
        case _ if isinstance(error, UNREACHABLE):
            log.warning("%s %s: the database can't be reached: %s", method, path, error)
            name, answer = _unreachable(error, method, path, has_key=has_key)
        case _:
            log.error("%s %s failed", method, path, exc_info=error)
            name, answer = INTERNAL_ERROR[0], _problem(*INTERNAL_ERROR, 500, _LOGGED, path)
    count_problem(own, name, operation)
    return answer


def count_problem(own: Context, name: str, operation: str) -> None:
    """Counts an answer that is a problem of this name for the metrics."""
    # An operation's name that a client made up must not become a label.
    own.store.counts.add(REFUSALS_COUNTED, operation if operation in own.registry.operations else "", name)


def http_error_name(error: HTTPException) -> str:
    """The last part of the type URI of one of Werkzeug's own errors."""
    return (error.name or "error").lower().replace(" ", "-")


def may_be_done(error: Exception) -> bool:
    """Whether the write may be committed although the database's answer was lost."""
    return isinstance(error, errors.DatabaseUnreachableError) and error.may_be_done


def _problem(name: str, title: str, status: int, detail: str, path: str) -> Answer:
    document = problem_document(name, title, status, detail, path)
    return Answer(status=status, headers={"Content-Type": PROBLEM}, body=orjson.dumps(document))


def _refused(refusal: errors.Refusal, path: str) -> tuple[str, Answer]:
    return REFUSALS[type(refusal)][1], refusal_answer(refusal, path)


def _http_error(error: HTTPException, path: str) -> tuple[str, Answer]:
    """Answers one of Werkzeug's own errors: no such route, wrong method, a body that was cut off."""
    name = http_error_name(error)
    answer = _problem(name, error.name, error.code or 500, _detail(error, path), path)
    for header, value in error.get_headers():
        if header.lower() not in {"content-type", "content-length"}:
            answer.headers[header] = value
    return name, answer


def _detail(error: HTTPException, path: str) -> str:
    """Our own words: those of Werkzeug are for people who type URLs into browsers."""
    job_id = _JOB.match(path)
    if error.code == 404 and job_id:
        return f"there is no job {job_id[1]!r}: a job's id is a UUID, as the answer to its submit has it"
    return _DETAILS.get(error.code or 500, error.name)


def _unreachable(error: Exception, method: str, path: str, *, has_key: bool) -> tuple[str, Answer]:
    if method in _SAFE:
        return _refused(errors.Unavailable("the database does not answer; try again"), path)
    if not may_be_done(error):
        return _refused(
            errors.Unavailable("the database can't take it just now; nothing was recorded, try again"), path
        )
    answer = _problem(*OUTCOME_UNKNOWN, 503, _how_to_find_out(method, path, has_key=has_key), path)
    answer.headers["Retry-After"] = str(whole_seconds(errors.Unavailable.retry_after))
    return OUTCOME_UNKNOWN[0], answer


def _how_to_find_out(method: str, path: str, *, has_key: bool) -> str:
    lost = "the database went away before it answered: this may have been recorded, or not"
    if method == "POST" and has_key:
        return f"{lost}; repeat it under the same Idempotency-Key, which makes no second job"
    if method == "POST" and not path.endswith("/cancel"):
        return f"{lost}; look before you repeat it; under an Idempotency-Key a repeat makes no second job"
    return f"{lost}; repeat it, which does no harm"
