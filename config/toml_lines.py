"""Where in a TOML file something stands, for messages."""

import re
import tomllib


def line_of(text: str, location: tuple[int | str, ...]) -> int:
    """The line of a value, found by its table's header and its key; the table's own when the key is nowhere."""
    keys = [str(part) for part in location if not isinstance(part, int)]
    lines = text.splitlines()
    header = next(
        (
            number
            for number, line in enumerate(lines)
            if re.match(rf"\s*\[\s*{'.'.join(_quoted(key) for key in keys[:2])}\s*[\].]", line)
        ),
        None,
    )
    if header is None:
        return 1
    for number, line in enumerate(lines[header + 1 :], header + 1):
        if line.lstrip().startswith("["):
            break
        if len(keys) > 2 and re.match(rf"\s*{_quoted(keys[2])}\s*[=.]", line):
            return number + 1
    return header + 1


def _quoted(key: str) -> str:
    return rf"\s*[\"']?{re.escape(key)}[\"']?\s*"


def as_fault(error: tomllib.TOMLDecodeError, text: str) -> str:
    """What is wrong, behind its line: `3: Expected '=' after a key in a key/value pair`."""
    words, _, place = str(error).rpartition(" (at ")
    if read := re.fullmatch(r"line (\d+), column \d+\)", place):
        return f"{read[1]}: {words}"
    return f"{len(text.splitlines())}: {error}"
