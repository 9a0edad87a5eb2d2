"""Parses the headers of a submit: timeout, start, idempotency key, webhook, partition, trace. Without Flask."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from werkzeug.datastructures import Headers
from werkzeug.http import parse_date

from tidegate.access.keys import Caller
from tidegate.errors import InvalidHeader, UnsupportedBody
from tidegate.intake.submission import Submission
from tidegate.operations.operation import Body
from tidegate.timeformat import parse_instant
from tidegate.webhooks.delivery import Webhook

_HTTP_DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)", re.ASCII)
KEY_PATTERN = "^[!-~]{1,255}$"
"""Of a key in a JSON document."""
KEY_HEADER_PATTERN = r'^([!#-+\--:<-~]{1,255}|"([ !#-\[\]-~]|\\["\\]){1,255}")$'
"""Of the header: a bare key without comma, semicolon or quote, or a string of RFC 9651."""
PARTITION_PATTERN = "^[!-~]{1,64}$"
"""Of a partition's name."""
PRIORITY_PATTERN = "^[0-7]$"
MOST_PASSED = 4096
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# W3C Trace Context, version 00; ids of all zeros are invalid.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def submission_of(
    headers: Headers, content: bytes, operation: str, caller: Caller, base_url: str, *, passed: Sequence[str] = ()
) -> Submission:
    """Makes the Submission of headers and body; raises InvalidHeader for one of our headers that can't be parsed.

    `passed`: the headers that the operation passes on.
    """
    return Submission(
        operation=operation,
        body=Body(
            content=content, content_type=headers.get("Content-Type", ""), headers=passed_headers(headers, passed)
        ),
        client_id=caller.client_id,
        timeout=_timeout(headers.get("Job-Timeout")),
        not_before=_not_before(headers.get("Job-Not-Before")),
        **asdict(idempotency_key(headers.get("Idempotency-Key"))),
        traceparent=traceparent_in(headers),
        webhook=webhook_in(headers, base_url),
        partition=partition_in(headers),
        priority=priority_in(headers),
        names_shared=caller.names_shared,
    )


def passed_headers(headers: Headers, names: Sequence[str]) -> Mapping[str, str]:
    """Those of the request's headers that are passed on to the downstream; raises InvalidHeader."""
    found = {name: ", ".join(values) for name in names if (values := headers.getlist(name))}
    for name, value in found.items():
        if _CONTROL.search(value):
            raise InvalidHeader(f"{name}: it is passed on, and has a control character")
    if sum(len(name) + len(value) for name, value in found.items()) > MOST_PASSED:
        raise InvalidHeader(f"{' and '.join(found)}: what is passed on is {MOST_PASSED} bytes at most, in all")
    return found


def check_not_encoded(headers: Headers) -> None:
    """Raises UnsupportedBody for a body with a Content-Encoding."""
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise UnsupportedBody("send the body without Content-Encoding: it is passed on as it is")


@dataclass(frozen=True, kw_only=True)
class Key:
    """An Idempotency-Key, and as an earlier version stored it, with its quotes; None: there is none, or it had none."""

    idempotency_key: str | None
    quoted_key: str | None = None


def idempotency_key(value: str | None) -> Key:
    """Parses an Idempotency-Key: a string of RFC 9651, as the IETF draft has it, or bare; raises InvalidHeader.

    Two header lines come as one with a comma between: neither form has that.
    """
    text = None if value is None else value.strip(" ")
    if text is None:
        return Key(idempotency_key=None)
    if not re.fullmatch(KEY_HEADER_PATTERN, text):
        raise InvalidHeader(
            'Idempotency-Key: one, of 1 to 255 visible ASCII characters, in quotes ("k 1") or bare, without parameters;'
            " a bare one has no comma, semicolon, quote or blank"
        )
    if not text.startswith('"'):
        return Key(idempotency_key=text)
    return Key(idempotency_key=re.sub(r"\\(.)", r"\1", text[1:-1]), quoted_key=text)


def webhook_in(headers: Headers, base_url: str) -> Webhook | None:
    """The webhook that the headers name; whether its URL is acceptable is checked later."""
    url = headers.get("Webhook-Url")
    return None if url is None else Webhook(url=url.strip(), base_url=base_url)


def partition_in(headers: Headers) -> str | None:
    """The name of Job-Partition; raises InvalidHeader for one that can't be a name."""
    value = headers.get("Job-Partition")
    if value is not None and not re.fullmatch(PARTITION_PATTERN, value):
        raise InvalidHeader("Job-Partition: 1 to 64 visible ASCII characters")
    return value


def priority_in(headers: Headers) -> int | None:
    """The number of Job-Priority; raises InvalidHeader for another than 0 to 7."""
    value = headers.get("Job-Priority")
    if value is None:
        return None
    if not re.fullmatch(PRIORITY_PATTERN, value):
        raise InvalidHeader(f"Job-Priority: {value[:40]!r} is not a number from 0 (first) to 7")
    return int(value)


def traceparent_in(headers: Headers) -> str | None:
    """The traceparent of the request; one that can't be parsed is ignored, as W3C Trace Context asks."""
    value = headers.get("traceparent", "").strip()
    return value if _TRACEPARENT.fullmatch(value) else None


def _timeout(value: str | None) -> timedelta | None:
    if value is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}", value.strip(), re.ASCII):
        raise InvalidHeader(f"Job-Timeout: {value[:40]!r} is not a whole number of seconds, at least 1")
    return timedelta(seconds=int(value))


def _not_before(value: str | None) -> datetime | None:
    """Parses Job-Not-Before: an HTTP-date or RFC 3339. The parser of HTTP-dates accepts much else besides."""
    if value is None:
        return None
    try:
        if _HTTP_DATE.match(value) and (instant := parse_date(value)):
            return instant.astimezone(UTC)
        return parse_instant(value)
    except (ValueError, OverflowError):
        pass
    raise InvalidHeader(f"Job-Not-Before: {value[:40]!r} is neither an HTTP-date nor RFC 3339")
