"""What a planted bug is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """A line that is wrong, or two where one makes good what the other lets through."""

    name: str
    file: str
    right: str
    wrong: str
    beside: "Bug | None" = None
