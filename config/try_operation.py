"""`tidegate try`: makes one call of an operation by hand; shows request, answer, and what Tidegate makes of it.

No job is recorded and nothing is paced: the call goes out at once, and counts at the downstream as any other. What the
environment puts into URL and headers is shown as it stands in the operations file.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import uuid_utils

from config.check import find_faults
from config.table_faults import meant
from tidegate import clock
from tidegate.errors import Refusal, UnknownOperation
from tidegate.operations.attempt_outcome import outcome_of
from tidegate.operations.http_operation import HttpOperation
from tidegate.operations.operation import Attempt, Body, Member, Operation, Progress, check_size
from tidegate.operations.outcome import Failed, HandedBack, Outcome, Polls, Refused, Succeeded, TryAgain
from tidegate.operations.polling import ACCEPTED, wait_before_poll
from tidegate.operations.request_parts import in_words
from tidegate.operations.typed_input import says_json
from tidegate.timeformat import format_duration

_MOST_SHOWN = 4096
_HIDDEN = "***"
_HOW_MODULES_ARE_FOUND = "a module of yours is named by an entry point of what is installed, or by TIDEGATE_OPERATIONS"
_AUTHORITY = "Is that certificate signed by an authority of your own? ca_file or TIDEGATE_CA_FILE names that one's."
# What OpenSSL says, and what it is most often.
_HINTS = {
    "self-signed certificate": _AUTHORITY,
    "unable to get local issuer certificate": _AUTHORITY,
    "WRONG_VERSION_NUMBER": "Does that port speak https:// at all? So does a server of http:// look from here.",
}


def try_operation(
    name: str,
    content: bytes,
    *,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
    operations_file: Path | None = None,
) -> int:
    """Makes the call and prints what happened; 0: a job would succeed, or be polled. 2: there are faults."""
    faults, current, declared = find_faults(with_secrets=True, operations_file=operations_file)
    if faults or current is None or declared is None:
        print("\n".join(faults), file=sys.stderr)  # noqa: T201 - this is its output
        if operations_file is None and current is not None and not current.operations_file.is_file():
            print("name the file with --operations-file, or in TIDEGATE_OPERATIONS_FILE", file=sys.stderr)  # noqa: T201
        return 2
    registry = declared.registry()
    try:
        operation = registry.operation(name)
    except UnknownOperation:
        known = ", ".join(sorted(registry.operations))
        hint = meant(name, registry.operations) or f"; {_HOW_MODULES_ARE_FOUND}"
        print(f"there is no operation {name!r}; there are {known}{hint}", file=sys.stderr)  # noqa: T201 - as above
        return 2
    body = Body(content=content, content_type=content_type, headers=headers or {})
    try:
        check_size(operation, body)
        operation.check(body)
    except Refusal as refusal:
        print(f"A submit would be refused: {in_words(refusal)}")  # noqa: T201 - as above
        return 1
    trial = _Trial(operation, body)
    outcome = trial.run(max_result=current.max_result)
    print("\n".join([*_meaning(outcome, operation), *trial.hints(outcome)]))  # noqa: T201 - as above
    return 0 if isinstance(outcome, Succeeded | Polls) else 1


class _Trial:
    """One attempt by hand, which prints each step when it happens."""

    def __init__(self, operation: Operation, body: Body) -> None:
        self._operation = operation
        self._body = body
        self._job_id = str(uuid_utils.uuid7())
        self._ends = clock.monotonic() + operation.attempt_timeout.total_seconds()
        self._slots = 0
        self._says_later = False

    def run(self, *, max_result: int) -> Outcome:
        operation = self._operation
        if isinstance(operation, HttpOperation):
            operation = replace(operation, observe=self._observe)
        attempt = Attempt(
            job_id=self._job_id,
            number=1,
            report=self._report,
            seconds_left=lambda: self._ends - clock.monotonic(),
            take_slot=self._take_slot,
        )
        stopped = HandedBack(reason="stopped")
        return outcome_of(operation, self._body, attempt, max_result=max_result, when_stopped=lambda: stopped)

    def hints(self, outcome: Outcome) -> Iterator[str]:
        """What to look at, where the outcome may surprise who tries the operation for the first time."""
        if isinstance(outcome, Succeeded) and self._says_later:
            yield "It answered 202 with a Location. If the work is done later, poll = true asks there until it is."
        words = outcome.message if isinstance(outcome, TryAgain) else ""
        yield from (hint for sign, hint in _HINTS.items() if sign in words)

    def _report(self, progress: Progress) -> None:
        total = f" of {progress.total}, {progress.percent} %" if progress.total else ""
        self._say(f"progress: {progress.done}{total} {progress.note or ''}".rstrip())

    def _take_slot(self) -> None:
        self._slots += 1
        self._say(f"asks for slot {self._slots}")

    def _observe(self, event: str, info: dict[str, Any]) -> None:
        match event:
            case "connection.connect_tcp.started":
                self._say(f"connects to {info['host']}:{info['port']}")
            case "http11.send_request_headers.started":
                self._say("\n".join(self._request(info["request"])))
            case "http11.receive_response_headers.complete":
                version, status, reason, headers = info["return_value"]
                self._says_later = status == ACCEPTED and any(name.lower() == b"location" for name, _ in headers)
                fields = [f"  {name.decode('latin-1').lower()}: {value.decode('latin-1')}" for name, value in headers]
                line = f"  {version.decode()} {status} {reason.decode('latin-1')}".rstrip()
                self._say("\n".join(["answer", line, *fields]))

    def _request(self, request: Any) -> Iterator[str]:
        """The request's lines, with texts of the operations file where there may be secrets in them."""
        made = self._operation
        assert isinstance(made, HttpOperation)  # noqa: S101 - for the type: nothing else is observed
        written = {name.lower(): value for name, value in made.headers.items() if "$" in value}
        hidden = {"proxy-authorization", *(["authorization"] if made.oauth else [])}
        yield "request"
        url, sent = made.parts.made_of(self._body, str)
        if made.batch:
            one = Member(job_id=self._job_id, number=1, body=self._body)
            sent = made.batch.request([one], made.name, clock.now())
        yield f"  {made.method} {url}"
        for raw, value in request.headers:
            name = raw.decode("ascii").lower()
            secret = _HIDDEN if name in hidden else None
            yield f"  {name}: {written.get(name) or secret or value.decode('latin-1')}"
        if sent is not None and sent.content:
            yield ""
            yield _shown(sent.content, sent.content_type)

    @staticmethod
    def _say(text: str) -> None:
        print(text, flush=True)  # noqa: T201 - this is its output


def _meaning(outcome: Outcome, operation: Operation) -> Iterator[str]:
    """What becomes of a job by this outcome."""
    match outcome:
        case Succeeded():
            yield from ("", _shown(outcome.content, outcome.content_type), "") if outcome.content else ()
            yield f"The job succeeds. Its result: {len(outcome.content)} bytes, {outcome.content_type}"
            if says_json(outcome.content_type) and not outcome.is_json:
                yield "It says that it is JSON and is none: kept as it is, and `result` is null."
        case Failed():
            yield from _said(outcome.detail)
            yield f"The job fails for good, {outcome.code}: {outcome.message}"
        case TryAgain():
            yield from _said(outcome.detail)
            yield f"The attempt fails, {outcome.code}: {outcome.message}"
            more = operation.retry.attempts - 1
            after = f", not before {format_duration(outcome.retry_after)}" if outcome.retry_after else ""
            first = format_duration(operation.retry.delay)
            yield (
                f"Up to {more} more follow, the next within {first}{after}." if more else "No other follows: it fails."
            )
        case Refused():
            rest = format_duration(outcome.retry_after) if outcome.retry_after else "1 s, 2 s, 4 s … up to 64 s"
            yield f"{outcome.message}: {operation.downstream} is full and rests for {rest}. No attempt is counted."
        case Polls():
            wait = wait_before_poll(outcome.after, polls=0)
            when = f"after {format_duration(wait)}" if wait else "at once"
            yield f"The downstream has accepted the work. A job keeps its place, and asks {when} at {outcome.url}"
        case HandedBack():
            yield f"The job is handed back and tried again: {outcome.reason}. No attempt is counted."
    for quota in outcome.quotas if not isinstance(outcome, HandedBack) else ():
        yield f"It announced: {quota}"


def _said(detail: Mapping[str, Any]) -> Iterator[str]:
    if detail.get("downstream_body"):
        yield from ("", _shown(str(detail["downstream_body"]).encode(), str(detail["downstream_content_type"])), "")


def _shown(content: bytes, content_type: str) -> str:
    """The beginning of a body, if it is a text."""
    try:
        text = content[:_MOST_SHOWN].decode("utf-8", "ignore" if len(content) > _MOST_SHOWN else "strict")
    except UnicodeDecodeError:
        return f"  ({len(content)} bytes of {content_type or 'an unnamed type'})"
    more = f"\n  … {len(content) - _MOST_SHOWN} bytes more" if len(content) > _MOST_SHOWN else ""
    return "\n".join(f"  {line}" for line in text.splitlines()) + more
