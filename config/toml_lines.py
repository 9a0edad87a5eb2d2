"""Line numbers of values in a TOML file, for messages: tomllib does not tell them."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any


class TomlLines:
    """Finds the line on which a value begins, in a valid TOML text.

    The parser tells no places, so it is asked about beginnings of the text: a value stands on the first line without
    which it would not be there. So tables, inline tables, dotted keys and values over several lines need no rules here.
    """

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self.document: Mapping[str, Any] = tomllib.loads(text)

    def line_of(self, location: Sequence[int | str]) -> int:
        """The line of the value at this location; of one that is missing, the line of its table."""
        location = location[: depth_of(self.document, location)]
        if not location:
            return 1
        low, high = 1, len(self._lines)
        while low < high:
            middle = (low + high) // 2
            if self._is_within(location, middle):
                high = middle
            else:
                low = middle + 1
        return low

    def _is_within(self, location: Sequence[int | str], end: int) -> bool:
        """Whether the value begins in the first `end` lines; lines that end within a value are read to its end."""
        for last in range(end, len(self._lines) + 1):
            try:
                beginning = tomllib.loads("\n".join(self._lines[:last]) + "\n")
            except tomllib.TOMLDecodeError:
                continue
            return depth_of(beginning, location) == len(location)
        return True


def depth_of(document: Any, location: Sequence[int | str]) -> int:
    """How many steps of the location exist in the document."""
    for depth, step in enumerate(location):
        if isinstance(document, Mapping) and step in document:
            document = document[str(step)]
        elif isinstance(document, list) and isinstance(step, int) and step < len(document):
            document = document[step]
        else:
            return depth
    return len(location)


def as_fault(error: tomllib.TOMLDecodeError, text: str) -> str:
    """A TOML error after its line number: `3: Expected '=' after a key in a key/value pair`."""
    words, _, place = str(error).rpartition(" (at ")
    if read := re.fullmatch(r"line (\d+), column \d+\)", place):
        return f"{read[1]}: {_explained(words)}"
    return f"{len(text.splitlines())}: {error}"


def _explained(words: str) -> str:
    """The parser's words, with what would do where they tell little."""
    if words == "Invalid value":
        return f"{words}; a text stands in quotes"
    if twice := re.fullmatch(r"Cannot declare \((.+)\) twice", words):
        table = ".".join(re.findall("'([^']*)'", twice[1]))
        return f"[{table}] stands there twice"
    return words
