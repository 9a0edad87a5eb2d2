"""Many jobs of one operation, in as few requests as it takes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate_client import clock
from tidegate_client.errors import Refused
from tidegate_client.protocol import Call, Gateway, Pause, Steps, answer_to, delay_before, told_by, unexpected
from tidegate_client.snapshot import Snapshot

MOST_JOBS = 1000
"""In one request, as the gateway takes them."""
MOST_BYTES = 500_000
"""Of a request's body: less than a proxy's usual limit of a megabyte. A single job may be larger."""
_HEADERS = {"Content-Type": "application/x-ndjson"}

Lines = Mapping[int, bytes]
"""Jobs as lines of NDJSON, by their index in what was submitted."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of many jobs: those that were taken and those that were not, by index in what was submitted."""

    jobs: Mapping[int, Snapshot]
    refusals: Mapping[int, Refused]


def submit_all(gateway: Gateway, path: str, lines: Lines) -> Steps[Taken]:
    """Submits all or none of at most 1,000 jobs; each has an idempotency key. Raises Refused."""
    answers = (yield from _answers(gateway, path, lines, {"all_or_none": "true"})) if lines else {}
    return Taken(jobs={index: Snapshot.of(answers[index]["job"]) for index in lines}, refusals={})


def submit_each(gateway: Gateway, path: str, lines: Lines) -> Steps[Taken]:
    """Submits jobs; each has an idempotency key, so that a repeated request makes no job twice.

    Those refused for a passing reason are sent again while the client is patient. Raises Refused when the first
    request was refused as a whole.
    """
    jobs: dict[int, Snapshot] = {}
    refused: dict[int, Refused] = {}
    left = lines
    give_up_at, tries = clock.monotonic() + gateway.patience, 1
    while left:
        passing: dict[int, Refused] = {}
        taken_before = len(jobs)
        for part in _parts(left):
            try:
                answers = yield from _answers(gateway, path, part)
            except Refused as refusal:
                if not jobs and not refused:
                    raise
                refused |= dict.fromkeys(part, refusal)  # others are recorded already, and their caller must know
                continue
            for index, answer in answers.items():
                if answer["job"]:
                    jobs[index] = Snapshot.of(answer["job"])
                else:
                    why = Refused(answer["problem"])
                    (passing if why.is_passing else refused)[index] = why
        if len(jobs) > taken_before:
            give_up_at, tries = clock.monotonic() + gateway.patience, 1
        tries += 1
        # A problem inside a bulk answer has no Retry-After of its own; the shortest that the gateway says is a second.
        pause = max(1.0, delay_before(tries))
        left = {index: left[index] for index in passing}
        if left and clock.monotonic() + pause > give_up_at:
            refused |= passing
            break
        if left:
            yield Pause(pause)
    return Taken(jobs=dict(sorted(jobs.items())), refusals=dict(sorted(refused.items())))


def _answers(
    gateway: Gateway, path: str, lines: Lines, params: Mapping[str, str] | None = None
) -> Steps[dict[int, Mapping[str, Any]]]:
    """Sends them in one request: what became of each."""
    call = Call(method="POST", path=path, content=b"\n".join(lines.values()), headers=_HEADERS, params=params)
    answer = yield from answer_to(gateway, call)
    answers: Sequence[Mapping[str, Any]] = told_by(answer, _each)
    if len(answers) != len(lines):
        raise unexpected(answer, f"{len(answers)} answers for {len(lines)} jobs")
    return dict(zip(lines, answers, strict=True))


def _each(document: Any) -> list[Mapping[str, Any]]:
    """The answer about each job: a job or a problem."""
    answers: list[Mapping[str, Any]] = [{"job": each["job"], "problem": each["problem"]} for each in document["jobs"]]
    for each in answers:
        if each["job"]:
            Snapshot.of(each["job"])
        else:
            Refused(each["problem"])
    return answers


def _parts(lines: Lines) -> Iterator[Lines]:
    """Cut into requests that are not too large."""
    part: dict[int, bytes] = {}
    size = 0
    for index, line in lines.items():
        if part and (len(part) == MOST_JOBS or size + len(line) > MOST_BYTES):
            yield part
            part, size = {}, 0
        part[index] = line
        size += len(line) + 1
    yield part
