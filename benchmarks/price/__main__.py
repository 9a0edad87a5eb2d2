"""What a submit, a poll, a release, a run, a round trip and a drain cost in processor time, statements and buffers,
beside another revision. `python -m benchmarks.price --beside main`.

Both trees run side by side on databases of their own, in interleaved pairs, for only the ratio means anything. A price
is kept when the median of the ratios is at most 1.03 and at most one statement more is asked.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.price import in_process, stacks
from benchmarks.price.in_process import Spent
from benchmarks.price.servers import price_server
from benchmarks.price.trees import Tree, this_tree, tree_of
from benchmarks.speed.command import OUT, POSTGRESQL, SQLITE, TITLES
from benchmarks.speed.machine import described
from tests.support import run

MOST_RATIO = 1.03
MOST_STATEMENTS_MORE = 1.05  # one, and what is asked twice a second
_HEAD = ("what", "database", "processor time", "beside", "ratio", "middle half", "statements", "buffers", "verdict")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """`pairs`: interleaved rounds. `times`: acts of each kind in one. `jobs`: in one round through the whole stack."""

    pairs: int
    times: int
    jobs: int


FULL = Scale(pairs=15, times=200, jobs=400)
QUICK = Scale(pairs=3, times=30, jobs=40)


@dataclass(frozen=True, kw_only=True)
class Price:
    """One line of the table: an act beside the same act of the other tree."""

    what: str
    database: str
    ours: Spent
    theirs: Spent

    @property
    def ratios(self) -> list[float]:
        """Pair by pair."""
        return [own / other for own, other in zip(self.ours.seconds, self.theirs.seconds, strict=True) if other]

    @property
    def is_kept(self) -> bool:
        """Whether it costs about the same."""
        more = self.ours.statements - self.theirs.statements
        return median(self.ratios) <= MOST_RATIO and more <= MOST_STATEMENTS_MORE

    def cells(self) -> tuple[str, ...]:
        """A line of the table."""
        ratios = sorted(self.ratios)
        quarter = len(ratios) // 4
        return (
            self.what,
            TITLES[self.database],
            *(f"{1e3 * median(spent.seconds):.3f} ms" for spent in (self.ours, self.theirs)),
            f"{median(ratios):.3f}",
            f"{ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f}",
            _beside(self.ours.statements, self.theirs.statements),
            _beside(self.ours.buffers, self.theirs.buffers),
            "kept" if self.is_kept else "**dearer**",
        )


def main() -> None:
    """Prints the table and writes price.md and price.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.price", description=__doc__)
    parser.add_argument("--beside", default="HEAD", metavar="REVISION", help="(default: %(default)s)")
    parser.add_argument("--database", choices=(POSTGRESQL, SQLITE), help="(default: each)")
    parser.add_argument(
        "--part", choices=("acts", "stack"), help="acts in one process, or the whole stack (default: both)"
    )
    parser.add_argument("--pairs", type=int, help=f"interleaved rounds (default: {FULL.pairs})")
    parser.add_argument("--quick", dest="scale", action="store_const", const=QUICK, default=FULL, help="for trying")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the figures (default: %(default)s)")
    arguments = parser.parse_args()
    scale: Scale = arguments.scale
    if arguments.pairs:
        scale = Scale(pairs=arguments.pairs, times=scale.times, jobs=scale.jobs)
    prices: list[Price] = []
    run.begin()
    try:
        with tempfile.TemporaryDirectory(prefix="tidegate-price-", ignore_cleanup_errors=True) as folder:
            Path(folder).chmod(0o711)  # PostgreSQL runs as another user
            trees = [this_tree(), tree_of(arguments.beside, Path(folder) / "beside")]
            for kind in [arguments.database] if arguments.database else [POSTGRESQL, SQLITE]:
                prices += _measure(kind, trees, Path(folder) / kind, scale, arguments.part)
                _write(arguments.out, trees, prices)
                print(f"{TITLES[kind]} is measured, load {os.getloadavg()[0]:.1f}", flush=True)
    finally:
        run.end()
    print(f"\n{_table(trees, prices)}\n\n{arguments.out / 'price.md'}")


def _measure(kind: str, trees: Sequence[Tree], folder: Path, scale: Scale, part: str | None) -> list[Price]:
    folder.mkdir()
    folder.chmod(0o711)
    found: list[dict[str, Spent]] = [{}, {}]
    with price_server(kind, folder) as server:
        if part != "stack":
            found = in_process.measure(trees, folder, server, pairs=scale.pairs, times=scale.times)
        if part != "acts":
            whole = stacks.measure(trees, folder, server, pairs=scale.pairs, jobs=scale.jobs)
            found = [{**acts, **more} for acts, more in zip(found, whole, strict=True)]
    ours, theirs = found
    return [Price(what=what, database=kind, ours=ours[what], theirs=theirs[what]) for what in ours]


def _beside(own: float | None, other: float | None) -> str:
    if own is None or other is None or not (own or other):
        return ""
    return f"{own:.2f}, {other:.2f}"


def _table(trees: Sequence[Tree], prices: Sequence[Price]) -> str:
    lines = [_HEAD, ("---",) * len(_HEAD), *(price.cells() for price in prices)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{trees[0].name} beside {trees[1].name}; of statements and buffers ours come first\n\n{table}"


def _write(folder: Path, trees: Sequence[Tree], prices: Sequence[Price]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    machine = described()
    figures = [{**asdict(price), "ratio": median(price.ratios), "is_kept": price.is_kept} for price in prices]
    (folder / "price.json").write_text(json.dumps({"machine": machine, "figures": figures}, indent=2) + "\n")
    lines = [f"- {what}: {value}" for what, value in machine.items()]
    (folder / "price.md").write_text("\n".join([*lines, "", _table(trees, prices), ""]))


if __name__ == "__main__":
    main()
