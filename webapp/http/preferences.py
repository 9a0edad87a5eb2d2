"""Parses the Prefer header (RFC 7240): how long a client would wait. What can't be parsed is ignored, no error."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from werkzeug.http import parse_list_header


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """The preferences that the gateway knows.

    `wait`: whole seconds, at most as long as the settings allow; 0: not at all.
    """

    wait: int = 0
    respond_async: bool = False

    def fields(self) -> dict[str, str]:
        """The Preference-Applied header of an answer in which these made a difference; none if there are none."""
        names = [*(["respond-async"] if self.respond_async else []), *([f"wait={self.wait}"] if self.wait else [])]
        return {"Preference-Applied": ", ".join(names)} if names else {}


def preferences_in(header: str, longest: int) -> Preferences:
    """Parses a Prefer header; of a preference that comes twice the first counts. `longest`: wait, in seconds."""
    wait, respond_async = None, False
    for name, value in _items(header):
        if name == "wait" and wait is None and re.fullmatch(r"\d{1,9}", value, re.ASCII):
            wait = min(int(value), longest)
        elif name == "respond-async":
            respond_async = True
    return Preferences(wait=wait or 0, respond_async=respond_async)


def _items(header: str) -> Iterator[tuple[str, str]]:
    """Splits the header into names in lower case and values; parameters, of which ours have none, are ignored."""
    for item in parse_list_header(header):
        name, _, value = item.partition(";")[0].partition("=")
        yield name.strip().lower(), value.strip().strip('"')
