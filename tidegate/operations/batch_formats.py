"""Batches over HTTP: the request that is made of several jobs, and which outcome each has by its answer. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

import orjson

from tidegate.errors import InputFault, InvalidInput, MalformedBody, Refusal
from tidegate.operations.batch import Batch
from tidegate.operations.http_answer import Answer, AnswerRules, detail_of
from tidegate.operations.json_text import JsonText
from tidegate.operations.operation import JSON, MEGABYTE, Body, Member
from tidegate.operations.outcome import (
    BatchOutcome,
    ErrorCode,
    Failed,
    HandedBack,
    Outcome,
    Split,
    Succeeded,
    TryAgain,
)
from tidegate.operations.quota_fields import Quota
from tidegate.operations.request_parts import in_words
from tidegate.operations.sqs_event import event_of, reported
from tidegate.operations.typed_input import is_json

# One answer is held in memory as a whole.
_LARGEST_ANSWER = 64 * MEGABYTE
_STATUS = range(100, 600)
NULL = b"null"
"""The result of a job of which the answer says no more than that it is done."""


class BatchFormat(StrEnum):
    """How the jobs of a batch stand in the request, and their results in its answer."""

    ARRAY = "array"
    RESULTS = "results"
    SQS = "sqs"


@dataclass(frozen=True, kw_only=True)
class HttpBatch(Batch):
    """How a call over HTTP takes several jobs."""

    format: BatchFormat

    @property
    def takes_json(self) -> bool:
        """Whether each input has to be JSON: it becomes part of JSON."""
        return self.format is not BatchFormat.SQS

    def check(self, body: Body) -> None:
        """Raises MalformedBody or InvalidInput for an input that can't stand in a request of this format."""
        if self.takes_json:
            if not is_json(body.content):
                raise MalformedBody("Invalid JSON")
            return
        try:
            body.content.decode()
        except UnicodeDecodeError:
            fault = InputFault("", "it is no text in UTF-8, which the body of a message has to be")
            raise InvalidInput([fault]) from None

    def request(self, members: Sequence[Member], queue: str, now: datetime) -> Body:
        """The body of the call; raises as `check` does. `queue`: what the messages come from."""
        for member in members:
            self.check(member.body)
        match self.format:
            case BatchFormat.ARRAY:
                content = b"[" + b",".join(member.body.content for member in members) + b"]"
            case BatchFormat.RESULTS:
                parts = (b'{"id":%b,"body":%b}' % (orjson.dumps(each.job_id), each.body.content) for each in members)
                content = b'{"requests":[' + b",".join(parts) + b"]}"
            case BatchFormat.SQS:
                content = event_of(members, queue, now)
        return Body(content=content)

    def largest_answer(self, members: int, max_result: int) -> int:
        """Bytes that an answer may have, where one result may have `max_result`."""
        return max(max_result, min(members * max_result, _LARGEST_ANSWER))

    def outcomes(
        self, answer: Answer, members: Sequence[Member], rules: AnswerRules, *, max_result: int
    ) -> BatchOutcome | Failed:
        """What becomes of the members by this answer, in their order, or of all together."""
        content = rules.unpacked(answer, largest=self.largest_answer(len(members), max_result))
        if not isinstance(content, bytes):
            return content
        if not answer.is_good:
            return rules.judge(answer.status, answer.content_type, content, answer.told)
        try:
            match self.format:
                case BatchFormat.ARRAY:
                    return _of_array(answer, content, members, rules)
                case BatchFormat.RESULTS:
                    return _of_results(content, members, rules)
                case BatchFormat.SQS:
                    return _of_sqs(answer, content, members, rules)
        except Refusal as reason:
            return _not_understood(answer, content, in_words(reason))


def with_quotas(outcome: BatchOutcome, quotas: tuple[Quota, ...]) -> BatchOutcome:
    """The same, which tells what the answer announced as left: of several outcomes each tells it."""
    match outcome:
        case Split():
            return Split(alone=replace(outcome.alone, quotas=quotas))
        case HandedBack():
            return outcome
        case Sequence():
            return tuple(_with_quotas(each, quotas) for each in outcome)
    return _with_quotas(outcome, quotas)


_AnOutcome = TypeVar("_AnOutcome", bound=Outcome)


def _with_quotas(outcome: _AnOutcome, quotas: tuple[Quota, ...]) -> _AnOutcome:
    return outcome if isinstance(outcome, HandedBack) else replace(outcome, quotas=quotas)


def _of_array(
    answer: Answer, content: bytes, members: Sequence[Member], rules: AnswerRules
) -> Sequence[Outcome] | Failed:
    results = JsonText.of(content).items()
    if len(results) != len(members):
        return _not_understood(answer, content, f"{len(results)} results for {len(members)} inputs")
    return tuple(rules.result(answer.status, each.text.encode(), JSON) for each in results)


def _of_results(content: bytes, members: Sequence[Member], rules: AnswerRules) -> Sequence[Outcome]:
    """Whatever stands for no job of the call is passed over; a job that is missing is tried again, and no other."""
    told: dict[str, list[Mapping[str, JsonText]]] = {}
    for each in JsonText.of(content).at(["results"]).items():
        result = each.members()
        told.setdefault((result["id"].string if "id" in result else None) or "", []).append(result)
    return tuple(_of_result(told.get(member.job_id, []), rules) for member in members)


def _of_result(told: Sequence[Mapping[str, JsonText]], rules: AnswerRules) -> Outcome:
    if len(told) != 1:
        return _again(f"the downstream's answer has {len(told) or 'no'} results for this job")
    status, body = told[0].get("status"), told[0].get("body")
    number = int(status.text) if status and status.text.isdecimal() and len(status.text) == 3 else 0
    content = body.text.encode() if body else NULL
    if number not in _STATUS:
        return _again("the downstream's answer has no status for this job")
    if 200 <= number < 300:
        return rules.result(number, content, JSON)
    return rules.judge(number, JSON, content)


def _of_sqs(
    answer: Answer, content: bytes, members: Sequence[Member], rules: AnswerRules
) -> Sequence[Outcome] | Split | Failed:
    """By the rules of Lambda: see `reported`. A job that is reported, or whose batch has failed, is tried again."""
    if content and is_json(content) and isinstance(failed := rules.result(answer.status, content, JSON), Failed):
        return failed
    try:
        failures, results = reported(content, {member.job_id for member in members})
    except ValueError as reason:
        return Split(alone=_again(f"the downstream answered {answer.status}, and {reason}", answer, content))
    again = _again("the downstream has reported that this job failed")
    return tuple(
        again
        if member.job_id in failures
        else Succeeded(content=results.get(member.job_id, NULL), content_type=JSON, is_json=True)
        for member in members
    )


def _again(message: str, answer: Answer | None = None, content: bytes = b"") -> TryAgain:
    detail = detail_of(answer.status, answer.content_type, content) if answer else {}
    return TryAgain(code=ErrorCode.DOWNSTREAM_ERROR, message=message, detail=detail)


def _not_understood(answer: Answer, content: bytes, reason: str) -> Failed:
    return Failed(
        code=ErrorCode.DOWNSTREAM_ERROR,
        message=f"the downstream's answer is not one to a batch: {reason}",
        detail=detail_of(answer.status, answer.content_type, content),
    )
