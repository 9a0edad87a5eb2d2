"""JSON pointers (RFC 6901): the place of a value in a document, as faults tell it and the operations file names it."""

import re
from collections.abc import Iterable

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")


def parse_pointer(text: str) -> tuple[str, ...]:
    """The names of a JSON pointer; raises ValueError where it is none."""
    if not _POINTER.fullmatch(text):
        raise ValueError("it is no JSON pointer: write /name or /name/inner (in a name ~1 for a slash, ~0 for a tilde)")
    return tuple(name.replace("~1", "/").replace("~0", "~") for name in text.split("/")[1:])


def pointer_of(names: Iterable[str | int]) -> str:
    """The JSON pointer of these names and numbers."""
    return "".join("/" + str(name).replace("~", "~0").replace("/", "~1") for name in names)
