"""One line of the table: the same thing with few and with many, measured in turns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, kw_only=True)
class Line:
    """`few`, `many`: values of the rounds."""

    what: str
    database: str
    unit: str
    few: Sequence[float]
    many: Sequence[float]

    @property
    def ratio(self) -> float:
        """Round by round: what else ran on the machine meanwhile was the same for both."""
        return median(many / few for few, many in zip(self.few, self.many, strict=True) if few)

    def cells(self) -> tuple[str, ...]:
        """A line of the table."""
        shown = (f"{median(values):.3g} {self.unit}" for values in (self.few, self.many))
        return self.what, self.database, *shown, f"{self.ratio:.2f}"


def in_turns(few: Callable[[], float], many: Callable[[], float], rounds: int) -> tuple[list[float], list[float]]:
    """A value of each a round; every other round goes backwards."""
    values: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            values[which].append((few, many)[which]())
    return values


def table(lines: Sequence[Line]) -> str:
    """Markdown."""
    head = ("what", "database", "few", "many", "ratio")
    rows = [head, ("---",) * len(head), *(line.cells() for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
