"""The command of a measurement: how much of it, on which database, where the figures go."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.figure import Figure, table
from benchmarks.speed.machine import described
from tests.support import run

OUT = Path("data/benchmarks")
POSTGRESQL, SQLITE = "postgresql", "sqlite"
TITLES = {POSTGRESQL: "PostgreSQL", SQLITE: "SQLite"}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured. `rounds`: values of each figure. `seconds`: of load for one value. `trips`: round trips
    for one value. `jobs`: drained in all. `idle_seconds`: for one value. `final`, `queued`: rows of the large tables;
    `pairs`: of their measurements with those of small ones."""

    rounds: int
    seconds: float
    trips: int
    jobs: int
    idle_seconds: float
    final: int
    queued: int
    pairs: int


FULL = Scale(rounds=5, seconds=4, trips=100, jobs=20_000, idle_seconds=20, final=1_000_000, queued=100_000, pairs=15)
QUICK = Scale(rounds=2, seconds=1, trips=10, jobs=1_000, idle_seconds=3, final=20_000, queued=2_000, pairs=3)

Measurement = Callable[[str, Scale], Sequence[Figure]]


def main(name: str, description: str | None, measure: Measurement, kinds: Sequence[str] = tuple(TITLES)) -> None:
    """Runs one measurement on each kind of database; prints its table and writes NAME.json."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--database", choices=kinds, help="(default: each)")
    add_scale(parser)
    arguments = parser.parse_args()
    run.begin()
    try:
        figures = [
            figure
            for kind in ([arguments.database] if arguments.database else kinds)
            for figure in measure(kind, arguments.scale)
        ]
    finally:
        run.end()
    print(table(figures))
    write(arguments.out, name, figures)


def add_scale(parser: argparse.ArgumentParser) -> None:
    """The options that all measurements have."""
    parser.add_argument("--quick", dest="scale", action="store_const", const=QUICK, default=FULL, help="for trying")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the figures (default: %(default)s)")


def write(folder: Path, name: str, figures: Sequence[Figure]) -> None:
    """NAME.md and NAME.json: the machine and every figure."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = described()
    document = {"machine": machine, "figures": [figure.as_json() for figure in figures]}
    (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    lines = [f"- {what}: {value}" for what, value in machine.items()]
    (folder / f"{name}.md").write_text("\n".join([*lines, "", table(figures), ""]))
