"""What is known of one job, and how it is waited for, read, called off; without any I/O."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2

from tidegate_client import clock
from tidegate_client.errors import ENDS, ConnectionFailed, NotDone, Refused
from tidegate_client.protocol import (
    LONGEST_DELAY,
    Call,
    Gateway,
    Pause,
    Steps,
    answer_to,
    retry_after,
    told_by,
    told_in_answer,
)
from tidegate_client.snapshot import Snapshot, State

LONGEST_HOLD = 25
"""Seconds that the gateway is asked to keep an answer back: less than proxies wait for one."""
WAITING_HOLD = 2
"""The same while a callback wants to hear how the queue moves, which is no change of the job."""
SHORT = 0.5

Progress = Callable[[Snapshot], None]


@dataclass(frozen=True, kw_only=True)
class RawResult:
    """A result byte for byte."""

    content: bytes
    content_type: str


class KnownJob:
    """What `Job` and `AsyncJob` have in common: how it was seen last, and the conversations about it."""

    def __init__(self, gateway: Gateway, seen: Snapshot) -> None:
        self._gateway = gateway
        self.seen = seen

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.seen.operation}: {self.state}, {self.seen.percent} %>"

    @property
    def id(self) -> str:
        """Its id, by which `Client.job` finds it again."""
        return self.seen.id

    @property
    def state(self) -> State:
        """As it was seen last."""
        return self.seen.state

    def _look(self) -> Steps[None]:
        self._see((yield from answer_to(self._gateway, Call(method="GET", path=self._path))))

    def _until_final(self, timeout: float | None, progress: Progress | None) -> Steps[Snapshot]:
        until = None if timeout is None else clock.monotonic() + timeout
        told: Snapshot | None = None
        tag: str | None = None
        while True:
            asked_at = clock.monotonic()
            # With a tag no change slips through between two polls, but there is no word of a queue that moves.
            if progress and self.seen.waiting:
                answer = yield from self._poll(WAITING_HOLD, None, until)
            else:
                answer = yield from self._poll(LONGEST_HOLD, tag, until)
            if answer.status_code != 304:
                self._see(answer)
            if progress and self.seen != told:
                progress(self.seen)
                told = self.seen
            if self.state.is_final:
                return self.seen
            if until is not None and clock.monotonic() >= until:
                raise NotDone(self.seen)
            is_new = answer.status_code != 304 and answer.headers.get("ETag") != tag
            tag = answer.headers.get("ETag", tag)
            was_held = "wait" in answer.headers.get("Preference-Applied", "")
            # Whatever applies the preference and yet answers the same at once must not be asked in a tight loop.
            if not was_held or (not is_new and clock.monotonic() - asked_at < SHORT):
                pause = retry_after(answer) or 1.0
                yield Pause(pause if until is None else min(pause, until - clock.monotonic()))

    def _value(self, timeout: float | None, progress: Progress | None) -> Steps[Any]:
        """Its result, of JSON as Python has it."""
        yield from self._until_succeeded(timeout, progress)
        value = self.seen.document.get("result")
        if value is not None:
            return value
        # None is the JSON null, a result that is not JSON, or one that the answer of a submit left out.
        raw = yield from self._raw()
        if not _is_json(raw.content_type):
            return raw.content
        try:
            return json.loads(raw.content)
        except ValueError:  # a downstream that says JSON and sends something else
            return raw.content

    def _raw_value(self, timeout: float | None, progress: Progress | None) -> Steps[RawResult]:
        yield from self._until_succeeded(timeout, progress)
        return (yield from self._raw())

    def _call_off(self) -> Steps[None]:
        self._see((yield from answer_to(self._gateway, Call(method="POST", path=f"{self._path}/cancel"))))

    def _again(self, idempotency_key: str | None) -> Steps[Snapshot]:
        headers = {"Idempotency-Key": idempotency_key or uuid4().hex}
        call = Call(method="POST", path=f"{self._path}/retry", headers=headers)
        return (yield from told_in_answer(self._gateway, call, Snapshot.of))

    def _erase(self) -> Steps[None]:
        try:
            yield from answer_to(self._gateway, Call(method="DELETE", path=self._path))
        except Refused as refusal:
            # Gone already: by an earlier try whose answer was lost, or by somebody else.
            if refusal.kind != "unknown-job":
                raise

    @property
    def _path(self) -> str:
        return f"/v1/jobs/{self.id}"

    def _poll(self, hold: int, tag: str | None, until: float | None) -> Steps[httpx2.Response]:
        headers = {"If-None-Match": tag} if tag else {}
        call = Call(method="GET", path=self._path, headers=headers)
        try:
            return (yield from answer_to(self._gateway, call, hold=hold, until=until))
        except ConnectionFailed as error:
            if until is not None and clock.monotonic() + LONGEST_DELAY >= until:
                raise NotDone(self.seen) from error
            raise

    def _until_succeeded(self, timeout: float | None, progress: Progress | None) -> Steps[None]:
        """Waits, and raises what the job's end means unless it succeeded."""
        seen = self.seen if self.state.is_final else (yield from self._until_final(timeout, progress))
        if seen.state in ENDS:
            raise ENDS[seen.state](seen)

    def _raw(self) -> Steps[RawResult]:
        answer = yield from answer_to(self._gateway, Call(method="GET", path=f"{self._path}/result"))
        return RawResult(content=answer.content, content_type=answer.headers.get("Content-Type", ""))

    def _see(self, answer: httpx2.Response) -> None:
        self.seen = told_by(answer, Snapshot.of)


def _is_json(content_type: str) -> bool:
    essence = content_type.partition(";")[0].strip().lower()
    return essence == "application/json" or essence.endswith("+json")
