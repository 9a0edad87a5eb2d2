"""Names in the OpenAPI document that stay apart where programs write them as `CamelCase` or `snake_case`."""

import re
from collections.abc import Iterable

_NO_LETTER = re.compile(r"[^a-z0-9]")


class Names:
    """The names given so far. Generators drop a class or a function whose name is taken, so none may be taken twice."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {_as_written(name) for name in taken}

    def new(self, wanted: str) -> str:
        """Returns the name, with a number behind it where a generator would take it for one that was given before."""
        name, number = wanted, 1
        while _as_written(name) in self._taken:
            number += 1
            name = f"{wanted}{number}"
        self._taken.add(_as_written(name))
        return name


def _as_written(name: str) -> str:
    """What is left of a name when its case and its separators are not looked at."""
    return _NO_LETTER.sub("", name.lower())
