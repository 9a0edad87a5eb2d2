"""The timeline on a job's page: created, waits and why, attempts, its end, what was sent to its webhook."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from tidegate.jobs.history import Release, Timeline
from tidegate.jobs.job import Job, Wait, Waiting
from tidegate.states import State
from tidegate.webhooks.delivery import Delivery, DeliveryAttempt, DeliveryState
from webapp.page.texts import STATES, WAITS, duration

# Shorter waits are the way through gate and broker, and not shown.
_WORTH_TELLING = timedelta(milliseconds=100)


class Tone(StrEnum):
    """The colour class of an entry."""

    PLAIN = "plain"
    WAIT = "wait"
    NOW = "now"
    GOOD = "good"
    BAD = "bad"
    WARN = "warn"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the timeline. `at` None: it has no instant of its own."""

    at: datetime | None
    title: str
    detail: str = ""
    tone: Tone = Tone.PLAIN


_OUTCOMES: dict[str | None, tuple[str, Tone]] = {
    "succeeded": ("succeeded", Tone.GOOD),
    "failed": ("failed for good", Tone.BAD),
    "error": ("failed", Tone.WARN),
    "refused": ("refused: the downstream had no capacity, and the attempt was given back", Tone.WARN),
    "timed out": ("ended by its time limit", Tone.WARN),
    "lost": ("lost with the process that ran it", Tone.WARN),
    "late": ("came too late, and its result was dropped", Tone.WARN),
    "stopped": ("stopped: it no longer counted", Tone.WARN),
    "halved": ("failed by what its batch contained, which goes again in halves", Tone.WARN),
    "left out": ("was left out of its batch before the call", Tone.PLAIN),
    "polls": ("was answered that its downstream works on it", Tone.PLAIN),
    "no slot": ("handed back: its slot was too far off", Tone.PLAIN),
    "token renewed": ("handed back: its access token was refused, and is fetched anew", Tone.WARN),
    "no place": ("handed back: the place was still taken", Tone.PLAIN),
    "unknown here": ("handed back: the worker does not know the operation", Tone.WARN),
    "erased": ("its job was erased", Tone.PLAIN),
    "handed back": ("handed back: its worker was stopped", Tone.PLAIN),
    None: ("is under way", Tone.NOW),
}
# Attempts that have a number; the others were given back and are not counted.
_COUNTED = frozenset({"succeeded", "failed", "error", "timed out", "lost", "late", None})
_NOT_TAKEN = {
    "dropped": "When a worker came for it, it no longer waited",
    "unclaimed": "Its message reached no worker",
    "not sent": "Its message could not be sent",
    None: "On its way to a worker",
}
_WAITED = {
    "error": "before another attempt",
    "timed out": "before another attempt",
    "refused": "while its downstream rested, for it had no capacity",
    "lost": "to be taken up again",
    "polls": "to be asked for again",
}


def entries_of(job: Job, timeline: Timeline, waiting: Waiting | None, delivery: Delivery | None) -> list[Entry]:
    """Every line of a job's timeline."""
    return [
        *_begin(job, timeline),
        *_attempts(job, timeline.releases),
        *_now(job, waiting),
        *_end(job),
        *(_sendings(delivery) if delivery else ()),
    ]


def _begin(job: Job, timeline: Timeline) -> Iterator[Entry]:
    detail = f"Its deadline is {duration(job.deadline - job.created_at)} later."
    yield Entry(
        at=job.created_at, title="Created", detail=f"A new try of {job.retry_of}. {detail}" if job.retry_of else detail
    )
    if timeline.left_out:
        yield Entry(at=None, title=f"{timeline.left_out} earlier releases are left out here")


def _attempts(job: Job, releases: Sequence[Release]) -> Iterator[Entry]:
    is_all = bool(releases) and releases[0].fence == 1
    before, number = job.created_at if is_all else None, 0
    outcome: str | None = ""
    for release in releases:
        if before and release.released_at - before >= _WORTH_TELLING:
            why = "for its downstream" if outcome == "" else _WAITED.get(outcome or "", "for its downstream again")
            yield Entry(at=before, title=f"Waited {duration(release.released_at - before)} {why}", tone=Tone.WAIT)
        if release.claimed_at is None and release.outcome is None and job.state.is_final:
            continue
        if release.claimed_at is None:
            title = _NOT_TAKEN.get(release.outcome, f"Not taken: {release.outcome}")
            yield Entry(at=release.released_at, title=title, tone=Tone.NOW if release.outcome is None else Tone.PLAIN)
        else:
            said, tone = _OUTCOMES.get(release.outcome, (f"handed back: {release.outcome}", Tone.PLAIN))
            if release.outcome is None and job.state.is_final:
                said, tone = "no longer counts; its call may still be open", Tone.WARN
            number += release.outcome in _COUNTED
            name = f"Attempt {number}" if is_all and release.outcome in _COUNTED else "An attempt"
            yield Entry(at=release.claimed_at, title=f"{name} {said}", detail=_call(release), tone=tone)
        before, outcome = release.ended_at, release.outcome


def _call(release: Release) -> str:
    parts = [f"worker {release.worker[:8]}" if release.worker else "its place is kept until the end of the job"]
    if release.call_started_at and release.ended_at and release.worker:
        parts.append(f"call of {duration(release.ended_at - release.call_started_at)}")
    if release.claimed_at:
        parts.append(f"taken {duration(release.claimed_at - release.released_at)} after its release")
    if release.batch_id:
        parts.append(f"in batch {release.batch_id[:8]}")
    return ", ".join(parts)


def _now(job: Job, waiting: Waiting | None) -> Iterator[Entry]:
    if job.cancel_requested and not job.state.is_final:
        yield Entry(at=None, title="Asked to stop", detail="Its attempt sees that at its next step.", tone=Tone.WARN)
    if waiting is None or waiting.reason is Wait.DISPATCH:
        return
    ahead = "" if waiting.position is None else f"{waiting.position:,} go before it."
    yield Entry(at=None, title=f"Waits {WAITS[waiting.reason]}", detail=ahead, tone=Tone.NOW)


def _end(job: Job) -> Iterator[Entry]:
    if not job.state.is_final:
        return
    tone = Tone.GOOD if job.state is State.SUCCEEDED else Tone.BAD
    took = duration(job.finished_at - job.created_at) if job.finished_at else ""
    yield Entry(at=job.finished_at, title=STATES[job.state], detail=f"{took} after it was created", tone=tone)


def _sendings(delivery: Delivery) -> Iterator[Entry]:
    receiver = urlsplit(delivery.url).hostname or ""
    if delivery.state is DeliveryState.WAITING:
        yield Entry(at=None, title="A webhook will tell its end", detail=f"to {receiver}", tone=Tone.WAIT)
    for attempt in delivery.attempts:
        yield _sending(attempt, receiver)
    if delivery.is_sending:
        return
    if delivery.state is DeliveryState.PENDING:
        yield Entry(at=delivery.run_at, title="The webhook is to be sent", detail=f"to {receiver}", tone=Tone.NOW)
    if delivery.state is DeliveryState.FAILED:
        yield Entry(
            at=delivery.ended_at, title="The webhook was given up", detail=f"{receiver} never took it", tone=Tone.BAD
        )


def _sending(attempt: DeliveryAttempt, receiver: str) -> Entry:
    said: Any = attempt.error or (f"it answered {attempt.status}" if attempt.status else "no answer yet")
    took = f", {duration(timedelta(seconds=attempt.seconds))}" if attempt.seconds is not None else ""
    if attempt.status and 200 <= attempt.status < 300:
        title, tone = "Webhook delivered", Tone.GOOD
    elif attempt.seconds is None:
        title, tone = "Webhook is being sent", Tone.NOW
    else:
        title, tone = "Webhook not taken", Tone.WARN
    return Entry(
        at=attempt.started_at, title=title, detail=f"to {receiver}, try {attempt.number}: {said}{took}", tone=tone
    )
