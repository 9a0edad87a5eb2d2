"""What the parts of a measurement found, and whether each bound was kept; the command that measures them."""

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.speed.command import OUT, POSTGRESQL, SQLITE, TITLES
from benchmarks.speed.machine import described
from tests.support import run


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


def measure_parts(name: str, about: str | None, parts: Mapping[str, Callable[[Verdicts, bool], None]]) -> int:
    """Measures what the command line says, prints it, and writes a table and JSON; 1 when a bound was missed, else 0.

    `name`: of the package, and of the files. Each part is told whether small sizes will do.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument("--part", action="append", choices=parts, help="may be repeated (default: each)")
    parser.add_argument("--database", choices=(POSTGRESQL, SQLITE), help="(default: each)")
    parser.add_argument("--quick", action="store_true", help="small sizes, for trying")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the figures (default: %(default)s)")
    arguments = parser.parse_args()
    verdicts: list[Verdict] = []
    run.begin()
    try:
        for part in arguments.part or parts:
            for database in [arguments.database] if arguments.database else TITLES:
                measured = Verdicts(part, database, [])
                parts[part](measured, arguments.quick)
                verdicts += measured.found
                print(f"{part}, {database}: done, load {os.getloadavg()[0]:.1f}", flush=True)
    finally:
        run.end()
    arguments.out.mkdir(parents=True, exist_ok=True)
    machine = described()
    document = {"machine": machine, "verdicts": [asdict(each) for each in verdicts]}
    (arguments.out / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    words = [f"- {what}: {value}" for what, value in machine.items()]
    page = arguments.out / f"{name}.md"
    page.write_text("\n".join([*words, "", table(verdicts), ""]))
    missed = [str(each) for each in verdicts if each.is_kept is False]
    kept = sum(each.is_kept is True for each in verdicts)
    print(f"\n{table(verdicts)}\n\n{kept} bounds kept, {len(missed)} missed", *missed, f"{page}", sep="\n")
    return 1 if missed else 0
