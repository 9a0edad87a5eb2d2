"""Reads `Prefer` (RFC 7240): how long a client would wait. Whatever can't be read is no preference, never an error."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from flask import Response, request
from werkzeug.http import parse_list_header

from webapp import gateway


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """What of them we know. `wait` in whole seconds, at most as long as the settings allow; 0: not at all."""

    wait: int = 0
    respond_async: bool = False


def preferences() -> Preferences:
    """Those of this request; of one that comes twice the first counts."""
    wait, respond_async = None, False
    for name, value in _items(request.headers.get("Prefer", "")):
        if name == "wait" and wait is None and re.fullmatch(r"\d{1,9}", value, re.ASCII):
            wait = min(int(value), gateway().settings.hold_seconds)
        elif name == "respond-async":
            respond_async = True
    return Preferences(wait=wait or 0, respond_async=respond_async)


def say_applied(response: Response, applied: Preferences) -> Response:
    """Says which preferences made a difference."""
    names = [*(["respond-async"] if applied.respond_async else []), *([f"wait={applied.wait}"] if applied.wait else [])]
    if names:
        response.headers["Preference-Applied"] = ", ".join(names)
    return response


def _items(header: str) -> Iterator[tuple[str, str]]:
    """Names in lower case with their values; parameters, of which ours have none, are passed over."""
    for item in parse_list_header(header):
        name, _, value = item.partition(";")[0].partition("=")
        yield name.strip().lower(), value.strip().strip('"')
