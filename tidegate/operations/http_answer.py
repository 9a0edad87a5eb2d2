"""What a downstream's answer over HTTP means to the operation that called it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import JsonValue

from tidegate.operations.content_coding import UnreadableAnswerError, unpack
from tidegate.operations.json_pointer import pointer_of
from tidegate.operations.json_text import has_something_at
from tidegate.operations.outcome import ErrorCode, Failed, Refused, Succeeded, TryAgain
from tidegate.operations.quota_fields import QuotaFields
from tidegate.operations.result import succeeded

CAPACITY_STATUSES = frozenset({429, 503})
ERROR_BODY_BYTES = 4096
_NOTHING_TOLD = QuotaFields()
_UNNAMED = "application/octet-stream"
Judged: TypeAlias = Succeeded | Failed | TryAgain | Refused


class Headers:
    """Case-insensitive look-up in httpcore's headers, which are pairs of bytes."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._values = {name.decode("ascii", "replace").lower(): value.decode("latin-1") for name, value in pairs}

    def get(self, name: str) -> str | None:
        """The value of the header of this name, in lower case."""
        return self._values.get(name)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer as it came. `told`: what its headers say of quotas and waits."""

    status: int
    headers: Headers
    content: bytes
    told: QuotaFields = _NOTHING_TOLD

    @property
    def is_good(self) -> bool:
        """Whether its status is one of success."""
        return 200 <= self.status < 300

    @property
    def content_type(self) -> str:
        """What it says that it is; for who says nothing, bytes."""
        return self.headers.get("content-type") or _UNNAMED


@dataclass(frozen=True, kw_only=True)
class AnswerRules:
    """What an operation's declaration makes of an answer: see `HttpOperation`. `retried`: its `retry.on`."""

    retried: frozenset[int]
    full_on: frozenset[int] = frozenset()
    fail_when: tuple[str, ...] | None = None

    def read(self, answer: Answer, method: str, *, largest: int) -> Judged:
        """The outcome of a call for one job. `largest`: bytes of its result."""
        content = self.unpacked(answer, largest=largest)
        if not isinstance(content, bytes):
            return content
        if not answer.is_good:
            return self.judge(answer.status, answer.content_type, content, answer.told)
        # An answer that never has a body has no type of one either, whatever it says.
        has_none = not content and (method == "HEAD" or answer.status in {204, 205})
        return self.result(answer.status, content, _UNNAMED if has_none else answer.content_type)

    def unpacked(self, answer: Answer, *, largest: int) -> bytes | Failed | TryAgain:
        """What it contains. Of one that is no success, and can't be unpacked, what came."""
        try:
            return unpack(answer.content, answer.headers.get("content-encoding") or "", largest=largest)
        except UnreadableAnswerError as error:
            if not answer.is_good:
                return answer.content
            kind = TryAgain if error.another_may_do else Failed
            detail = {"downstream_status": answer.status}
            return kind(code=ErrorCode.DOWNSTREAM_ERROR, message=f"the downstream's answer {error}", detail=detail)

    def result(self, status: int, content: bytes, content_type: str) -> Succeeded | Failed:
        """The outcome of a job whose status is one of success."""
        result = succeeded(content, content_type[:200])
        if self.fail_when is not None and result.is_json and has_something_at(self.fail_when, content):
            return Failed(
                code=ErrorCode.DOWNSTREAM_ERROR,
                message=f"the downstream answered {status} with something at {pointer_of(self.fail_when)}",
                detail=detail_of(status, content_type, content),
            )
        return result

    def judge(
        self, status: int, content_type: str, content: bytes, told: QuotaFields = _NOTHING_TOLD
    ) -> Failed | TryAgain | Refused:
        """The outcome of a status that is none of success."""
        message = f"the downstream answered {status}"
        if status in CAPACITY_STATUSES or (status in self.full_on and told.rest is not None):
            return Refused(message=message, retry_after=told.rest)
        detail = detail_of(status, content_type, content)
        if status in self.retried:
            return TryAgain(
                code=ErrorCode.DOWNSTREAM_ERROR, message=message, detail=detail, retry_after=told.retry_after
            )
        return Failed(code=ErrorCode.DOWNSTREAM_ERROR, message=message, detail=detail)


def detail_of(status: int, content_type: str, content: bytes) -> dict[str, JsonValue]:
    """What the downstream said, for the job's error."""
    return {
        "downstream_status": status,
        "downstream_content_type": content_type[:200],
        "downstream_body": content[:ERROR_BODY_BYTES].decode("utf-8", "replace"),
    }
