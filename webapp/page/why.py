"""Why a job has no result, or none yet, in words for its page: one entry for each thing that went wrong."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tidegate.jobs.history import Release
from tidegate.jobs.job import Job
from tidegate.states import State
from webapp.page.preview import visible
from webapp.page.texts import WAITED, duration, number

_SHOWN = 400
_SHOWN_LINES = 6


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that went wrong. `said`: what the downstream answered, and `status` its status."""

    title: str
    text: str
    said: str = ""
    status: int | None = None

    @property
    def beginning(self) -> str | None:
        """What is shown at first of a long text; None: it is short, and shown whole."""
        lines = self.text.split("\n")
        if len(self.text) <= _SHOWN and len(lines) <= _SHOWN_LINES:
            return None
        return "\n".join(lines[:_SHOWN_LINES])[:_SHOWN].rstrip() + "…"


def faults_of(job: Job, releases: Sequence[Release]) -> list[Fault]:
    """Why the job expired, and its last attempt's error."""
    return [*_expiry(job, releases), *_error(job)]


def _expiry(job: Job, releases: Sequence[Release]) -> Iterator[Fault]:
    if job.state is State.EXPIRED:
        had = duration(job.deadline - job.created_at)
        text = f"{_how_far(job, releases)} It had {had}, and there was no result by its deadline."
        yield Fault(title="Why it expired", text=text)


def _how_far(job: Job, releases: Sequence[Release]) -> str:
    waited = f"it waited {WAITED[job.waits_for]}" if job.waits_for else ""
    if not job.attempt:
        return f"No attempt was begun: {waited}." if waited else "No attempt was begun."
    made = f"{job.attempt} of {job.max_attempts} attempts"
    if waited:
        return f"After {made} {waited}."
    if _was_under_way(job, releases):
        return f"Attempt {job.attempt} of {job.max_attempts} was under way{_progress(job)}."
    return f"{made} brought no result."


def _was_under_way(job: Job, releases: Sequence[Release]) -> bool:
    last = releases[-1] if releases else None
    return last is not None and (last.ended_at is None or last.ended_at >= job.deadline)


def _progress(job: Job) -> str:
    if not job.percent and job.done is None:
        return ", and had told no progress"
    amount = "" if job.done is None else f" ({number(job.done)}{f' of {number(job.total)}' if job.total else ''})"
    return f", at {job.percent} %{amount}"


def _error(job: Job) -> Iterator[Fault]:
    if not job.error:
        return
    code = str(job.error["code"]).replace("_", " ").capitalize()
    yield Fault(
        title=code if job.state is State.FAILED else f"Last attempt: {code.lower()}",
        text=visible(str(job.error["message"]).strip()),
        said=visible(str(job.error.get("downstream_body") or "")[:4096]),
        status=job.error.get("downstream_status"),
    )
