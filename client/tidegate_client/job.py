"""One job of the gateway: wait for it, get its result, call it off."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

import httpx2

from tidegate_client import clock
from tidegate_client.errors import ENDS, ConnectionFailed, NotDone, Refused
from tidegate_client.snapshot import Snapshot, State
from tidegate_client.transport import LONGEST_DELAY, Transport, retry_after, told_by

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


class Job:
    """A job at the gateway. `seen` is how it was seen last; `refresh`, `wait` and the others look again."""

    def __init__(self, transport: Transport, seen: Snapshot) -> None:
        self._transport = transport
        self.seen = seen

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.seen.operation}: {self.state}, {self.seen.percent} %>"

    @property
    def id(self) -> str:
        """Its id, by which `Client.job` finds it again."""
        return self.seen.id

    @property
    def state(self) -> State:
        """As it was seen last."""
        return self.seen.state

    def refresh(self) -> Self:
        """Looks at it once."""
        self._see(self._transport.send("GET", self._path))
        return self

    def wait(self, timeout: float | None = None, progress: Progress | None = None) -> Snapshot:
        """Waits until it is final, however it ends, and returns how it ended.

        `progress` is called with each new Snapshot, the last one too. Raises NotDone after `timeout` seconds; the job
        goes on then.
        """
        until = None if timeout is None else clock.monotonic() + timeout
        told: Snapshot | None = None
        tag: str | None = None
        while True:
            asked_at = clock.monotonic()
            # With a tag no change slips through between two polls, but there is no word of a queue that moves.
            if progress and self.seen.waiting:
                answer = self._poll(WAITING_HOLD, None, until)
            else:
                answer = self._poll(LONGEST_HOLD, tag, until)
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
                clock.sleep(pause if until is None else min(pause, until - clock.monotonic()))

    def result(self, timeout: float | None = None, progress: Progress | None = None) -> Any:
        """Waits for it and returns its result: JSON as Python has it, anything else as bytes.

        Raises JobFailed, JobExpired or JobCancelled when it ends without one; otherwise as `wait`.
        """
        self._succeeded(timeout, progress)
        value = self.seen.document.get("result")
        if value is not None:
            return value
        # None is the JSON null, a result that is not JSON, or one that the answer of a submit left out.
        raw = self._raw()
        if not _is_json(raw.content_type):
            return raw.content
        try:
            return json.loads(raw.content)
        except ValueError:  # a downstream that says JSON and sends something else
            return raw.content

    def raw_result(self, timeout: float | None = None, progress: Progress | None = None) -> RawResult:
        """As `result`, byte for byte."""
        self._succeeded(timeout, progress)
        return self._raw()

    def cancel(self) -> Self:
        """Calls it off: cancelled at once if it is queued, asked to stop if it runs (`seen.state` tells).

        Raises Refused (409) when it had already ended otherwise.
        """
        self._see(self._transport.send("POST", f"{self._path}/cancel"))
        return self

    def retry(self, idempotency_key: str | None = None) -> "Job":
        """Submits a job that ended without a result again and returns the new one.

        Raises Refused (409) when it goes on or succeeded.
        """
        headers = {"Idempotency-Key": idempotency_key or uuid4().hex}
        answer = self._transport.send("POST", f"{self._path}/retry", headers=headers)
        return Job(self._transport, snapshot_of(answer))

    def delete(self) -> None:
        """Erases it and its result. Raises Refused (409) while it goes on."""
        try:
            self._transport.send("DELETE", self._path)
        except Refused as refusal:
            # Gone already: by an earlier try whose answer was lost, or by somebody else.
            if refusal.kind != "unknown-job":
                raise

    @property
    def _path(self) -> str:
        return f"/v1/jobs/{self.id}"

    def _poll(self, hold: int, tag: str | None, until: float | None) -> httpx2.Response:
        headers = {"If-None-Match": tag} if tag else {}
        try:
            return self._transport.send("GET", self._path, headers=headers, hold=hold, until=until)
        except ConnectionFailed as error:
            if until is not None and clock.monotonic() + LONGEST_DELAY >= until:
                raise NotDone(self.seen) from error
            raise

    def _succeeded(self, timeout: float | None, progress: Progress | None) -> None:
        """Waits, and raises what the job's end means unless it succeeded."""
        seen = self.seen if self.state.is_final else self.wait(timeout, progress)
        if seen.state in ENDS:
            raise ENDS[seen.state](seen)

    def _raw(self) -> RawResult:
        answer = self._transport.send("GET", f"{self._path}/result")
        return RawResult(content=answer.content, content_type=answer.headers.get("Content-Type", ""))

    def _see(self, answer: httpx2.Response) -> None:
        self.seen = snapshot_of(answer)


def snapshot_of(answer: httpx2.Response) -> Snapshot:
    """The job that an answer tells of; raises UnexpectedAnswer when it tells of none."""
    return told_by(answer, Snapshot.of)


def _is_json(content_type: str) -> bool:
    essence = content_type.partition(";")[0].strip().lower()
    return essence == "application/json" or essence.endswith("+json")
