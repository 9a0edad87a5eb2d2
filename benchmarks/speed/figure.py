"""A figure beside its yardstick, both measured in turns, and the table of figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

Measure = Callable[[], float]
_HEAD = ("what", "database", "Tidegate", "yardstick", "", "ratio", "lowest to highest", "reach", "aim", "verdict")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table: a value a round of ours and, unless there is nothing to compare with, of the yardstick.

    `reach` and `aim` are ratios to the yardstick, without one values of ours.
    """

    what: str
    database: str
    unit: str
    ours: Sequence[float]
    yardstick: str = ""
    theirs: Sequence[float] = ()
    reach: float | None = None
    aim: float | None = None
    better: Literal["more", "less"] = "more"

    @property
    def ratios(self) -> list[float]:
        """Ours to theirs, round by round: what else ran on the machine meanwhile was the same for both."""
        return [own / their for own, their in zip(self.ours, self.theirs, strict=bool(self.theirs)) if their]

    @property
    def judged(self) -> float:
        """What is held against reach and aim."""
        return median(self.ratios or self.ours)

    @property
    def verdict(self) -> str:
        """Whether it is there."""
        if self.reach is None:
            return ""
        if self.aim is not None and self._is_within(self.aim):
            return "aim"
        return "reached" if self._is_within(self.reach) else "**missed**"

    def as_json(self) -> dict[str, Any]:
        """Every value, and what they come to."""
        return {
            **asdict(self),
            "median": median(self.ours),
            "ratio": median(self.ratios) if self.ratios else None,
            "verdict": self.verdict.strip("*"),
        }

    def cells(self) -> tuple[str, ...]:
        """A line of the table."""
        ratios = self.ratios
        show = _ratio if ratios else _value
        return (
            self.what,
            self.database,
            f"{_value(median(self.ours))} {self.unit}",
            f"{_value(median(self.theirs))} {self.unit}" if self.theirs else "",
            self.yardstick,
            _ratio(median(ratios)) if ratios else "",
            f"{show(min(ratios or self.ours))} to {show(max(ratios or self.ours))}",
            "" if self.reach is None else show(self.reach),
            "" if self.aim is None else show(self.aim),
            self.verdict,
        )

    def _is_within(self, goal: float) -> bool:
        return self.judged >= goal if self.better == "more" else self.judged <= goal


def in_turns(measures: Mapping[str, Measure], rounds: int) -> dict[str, list[float]]:
    """A value a round of each; every other round goes backwards, so that none always comes after the same one."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds):
        for name in list(measures)[:: -1 if number % 2 else 1]:
            values[name].append(measures[name]())
    return values


def table(figures: Sequence[Figure]) -> str:
    """Markdown."""
    lines = [_HEAD, ("---",) * len(_HEAD), *(figure.cells() for figure in figures)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _value(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float) -> str:
    return f"{value:.2f}"
