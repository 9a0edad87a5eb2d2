"""The events of one job as the gateway tells them while they happen, over as many connections as it takes."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2

from tidegate_client import clock
from tidegate_client.errors import ConnectionFailed, UnexpectedAnswer
from tidegate_client.protocol import (
    EVENT_STREAM,
    Call,
    Close,
    Gateway,
    Listen,
    Next,
    Pause,
    Steps,
    answer_to,
    told_in_answer,
    unexpected,
)
from tidegate_client.snapshot import Snapshot

FIRST_RETRY = 1.0
"""Seconds before it connects again, until the gateway has said how many."""


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """A change of a job. `kind` is "state" or "progress", `job` how it was then, with its result once there is one."""

    kind: str
    id: str
    job: Snapshot

    def is_after(self, last: "JobEvent | None") -> bool:
        """Whether it tells more: a new connection begins with how the job is, which may be known."""
        return last is None or (self.id, self.job.state) != (last.id, last.job.state)


class EventFeed:
    """The events of one job, one after the other, up to its final state. It holds a connection until it is closed."""

    def __init__(self, gateway: Gateway, job_id: str) -> None:
        self._gateway = gateway
        self._path = f"/v1/jobs/{quote(job_id, safe='')}"
        self._stream: Any = None
        self._last: JobEvent | None = None
        self._retry = FIRST_RETRY
        self._give_up_at: float | None = None

    def next(self) -> Steps[JobEvent | None]:
        """Brings the next event; None behind the final one.

        A lost connection is made again, and the gateway tells how the job is by then: changes that came and went
        meanwhile are left out. Raises ConnectionFailed when no event came for as long as the client is patient, and
        Refused when the gateway tells no more of it, as when the job was deleted.
        """
        while self._last is None or not self._last.job.state.is_final:
            told = (yield from self._told()) if self._stream else (yield from self._connected())
            if told and told.is_after(self._last):
                self._last = told
                return told
        return None

    def close(self) -> Steps[None]:
        """Lets go of the connection."""
        if self._stream:
            stream, self._stream = self._stream, None
            yield Close(stream)

    def _connected(self) -> Steps[JobEvent | None]:
        """Opens a stream. Brings the job when there is none, as for one that ended under the version that was told."""
        headers = {"Accept": EVENT_STREAM}
        if self._last:
            headers["Last-Event-ID"] = self._last.id
        call = Call(method="GET", path=f"{self._path}/events", headers=headers, is_stream=True)
        answer = yield from answer_to(self._gateway, call)
        if answer.status_code == 204:
            seen = yield from told_in_answer(self._gateway, Call(method="GET", path=self._path), Snapshot.of)
            return JobEvent(kind="state", id=self._last.id if self._last else "", job=seen)
        if answer.is_closed:
            raise unexpected(answer)
        self._stream = yield Listen(answer)
        return None

    def _told(self) -> Steps[JobEvent | None]:
        """Brings what the stream tells next; None when it has ended, and it is time for another."""
        reason = "the event stream ended"
        try:
            heard: httpx2.ServerSentEvent | None = yield Next(self._stream)
        except httpx2.RequestError as error:
            reason, heard = str(error) or type(error).__name__, None
        if heard is None:
            yield from self.close()
            self._give_up_at = self._give_up_at or clock.monotonic() + self._gateway.patience
            if clock.monotonic() + self._retry > self._give_up_at:
                raise ConnectionFailed(self._gateway.url, reason)
            yield Pause(self._retry)
            return None
        self._give_up_at = None
        if heard.retry is not None:
            self._retry = heard.retry / 1000
        return self._event_of(heard) if heard.data else None

    def _event_of(self, heard: httpx2.ServerSentEvent) -> JobEvent:
        try:
            return JobEvent(kind=heard.event, id=heard.id, job=Snapshot.of(json.loads(heard.data)))
        except (ValueError, LookupError, TypeError, AttributeError):
            beginning = " ".join(heard.data[:200].split())
            raise UnexpectedAnswer(f"{self._gateway.url}{self._path}/events", 200, beginning) from None
