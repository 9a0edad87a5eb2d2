"""What a part of the measurement found, and whether each bound was kept."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One bound: what was found, and whether that keeps it (None: a figure without a bound)."""

    part: str
    database: str
    what: str
    found: str
    is_kept: bool | None

    @property
    def word(self) -> str:
        """`kept`, `MISSED`, or nothing."""
        return {True: "kept", False: "MISSED", None: ""}[self.is_kept]

    def __str__(self) -> str:
        return f"{self.database}, {self.part}: {self.what}: {self.found}" + (f" - {self.word}" if self.word else "")


@dataclass(frozen=True)
class Verdicts:
    """Those of one part on one database; each is printed as it is found."""

    part: str
    database: str
    found: list[Verdict]

    def add(self, what: str, found: str, is_kept: bool | None = None) -> None:
        """Prints and keeps one."""
        self.found.append(Verdict(part=self.part, database=self.database, what=what, found=found, is_kept=is_kept))
        print(self.found[-1], flush=True)

    def list(self, what: str, lines: Sequence[str], most: int = 20) -> None:
        """Prints what is to be listed, so many at the most."""
        if lines:
            more = [f"and {len(lines) - most} more"] if len(lines) > most else []
            print(
                f"  {what} ({len(lines)}):", *(f"    {line}" for line in [*lines[:most], *more]), sep="\n", flush=True
            )


def table(verdicts: Sequence[Verdict]) -> str:
    """Markdown."""
    rows = [("part", "database", "what", "found", "verdict"), ("---",) * 5]
    rows += [(each.part, each.database, each.what, each.found, each.word) for each in verdicts]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
