"""The HTTP answer to each Refusal: status, problem type, title, document and headers. Without Flask."""

import math
from datetime import timedelta

import orjson

from tidegate import errors
from tidegate.timeformat import instant
from webapp.http.answers import PROBLEM, Answer, problem_document
from webapp.http.shapes import Fault, Problem

REFUSALS: dict[type[errors.Refusal], tuple[int, str, str]] = {
    errors.UnknownOperation: (404, "unknown-operation", "There is no such operation"),
    errors.UnknownJob: (404, "unknown-job", "There is no such job"),
    errors.UnsupportedBody: (415, "unsupported-media-type", "The operation does not take this content type"),
    errors.MalformedBody: (400, "malformed-body", "The body is not JSON"),
    errors.InvalidInput: (422, "invalid-input", "The input breaks the operation's schema"),
    errors.InvalidHeader: (400, "invalid-header", "A header can't be used"),
    errors.NoPriorities: (422, "no-priorities", "The partition keeps the order of submit"),
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
    errors.BacklogFull: (429, "backlog-full", "As many jobs wait as may"),
    errors.TooManyPartitions: (429, "too-many-partitions", "As many partitions wait as may"),
    errors.JobNotFinal: (409, "job-not-final", "The job still goes on"),
    errors.JobAlreadyFinal: (409, "job-already-final", "The job has already ended"),
    errors.UnknownDownstream: (404, "unknown-downstream", "There is no such downstream"),
    errors.NotShared: (409, "not-shared", "This downstream has no partitions"),
    errors.CannotFinishInTime: (503, "cannot-finish-in-time", "The job could not be done before its deadline"),
    errors.NoRoom: (503, "no-room", "No more requests are held open just now"),
    errors.Overloaded: (503, "overloaded", "Too many requests are under way"),
    errors.TooSlow: (503, "too-slow", "The question takes too long"),
    errors.Unavailable: (503, "unavailable", "Nothing can be recorded just now"),
}
"""Every refusal with its status, the end of its type URI, and its title. docs/api.md lists them."""


def refusal_answer(refusal: errors.Refusal, path: str) -> Answer:
    """Makes the answer that refuses a request to this path."""
    document = refusal_document(refusal, path)
    headers = {"Content-Type": PROBLEM}
    match refusal:
        case errors.Unauthorized():
            headers["WWW-Authenticate"] = 'Bearer realm="tidegate"'
        case _:
            pass
    later = retry_after_seconds(refusal)
    if later is not None:
        headers["Retry-After"] = str(later)
    return Answer(status=document["status"], headers=headers, body=orjson.dumps(document))


def refusal_document(refusal: errors.Refusal, path: str) -> Problem:
    """The problem document of a Refusal."""
    status, name, title = REFUSALS[type(refusal)]
    document = problem_document(name, title, status, str(refusal), path)
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


def retry_after_seconds(refusal: errors.Refusal) -> int | None:
    """The Retry-After of a refusal, in whole seconds; None: the same request will never be taken."""
    match refusal:
        case errors.PassingRefusal() | errors.CannotFinishInTime() | errors.NoRoom() | errors.TooSlow():
            return whole_seconds(refusal.retry_after)
        case _:
            return None


def whole_seconds(duration: timedelta) -> int:
    """Rounds a duration up to whole seconds, at least 1, as Retry-After needs."""
    return max(1, math.ceil(duration.total_seconds()))
