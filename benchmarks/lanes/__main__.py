"""How much dearer a lane is with many others, many partitions, many schedulers, or a transaction that stays open.

`python -m benchmarks.lanes --help`. Ratios of the same thing with few and with many, in one run.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.lanes.figures import Line, table
from benchmarks.lanes.held import held, paced
from benchmarks.lanes.schedulers import schedulers
from benchmarks.lanes.seen import seen
from benchmarks.lanes.snapshot import snapshot
from benchmarks.lanes.web import web
from benchmarks.speed.command import OUT, POSTGRESQL, SQLITE, TITLES
from benchmarks.speed.machine import described
from tests.support import run


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many lanes, schedulers, jobs, partitions."""

    lanes: int
    web_lanes: int
    schedulers: int
    rounds: int
    seconds: float
    submits: int
    jobs: int
    partitions: int


FULL = Scale(
    lanes=100, web_lanes=5_000, schedulers=10, rounds=9, seconds=10, submits=30, jobs=40_000, partitions=10_000
)
QUICK = Scale(lanes=20, web_lanes=500, schedulers=4, rounds=3, seconds=2, submits=5, jobs=2_000, partitions=1_000)
_BOTH = (POSTGRESQL, SQLITE)

PARTS: Mapping[str, tuple[Callable[[str, str, Scale], list[Line]], tuple[str, ...]]] = {
    "held": (lambda kind, title, scale: held(kind, title, lanes=scale.lanes, rounds=scale.rounds), _BOTH),
    "paced": (lambda kind, title, scale: paced(kind, title, lanes=(5, scale.lanes), seconds=scale.seconds), _BOTH),
    "web": (lambda kind, title, scale: web(kind, title, lanes=scale.web_lanes, rounds=scale.rounds), _BOTH),
    "seen": (lambda kind, title, scale: seen(kind, title, partitions=scale.partitions, rounds=scale.rounds), _BOTH),
    "schedulers": (
        lambda kind, title, scale: schedulers(kind, title, count=scale.schedulers, submits=scale.submits),
        (POSTGRESQL,),
    ),
    "snapshot": (lambda _, title, scale: snapshot(title, jobs=scale.jobs), (POSTGRESQL,)),
}


def main() -> None:
    """Prints the table and writes lanes.md and lanes.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lanes", description=__doc__)
    parser.add_argument("--part", choices=PARTS, help="(default: each)")
    parser.add_argument("--database", choices=_BOTH, help="(default: each)")
    parser.add_argument("--quick", dest="scale", action="store_const", const=QUICK, default=FULL, help="for trying")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the figures (default: %(default)s)")
    arguments = parser.parse_args()
    lines: list[Line] = []
    run.begin()
    try:
        for name in [arguments.part] if arguments.part else PARTS:
            measure, kinds = PARTS[name]
            for kind in kinds:
                if arguments.database in {None, kind}:
                    lines += measure(kind, TITLES[kind], arguments.scale)
                    print(f"{name}, {kind}: done", flush=True)
    finally:
        run.end()
    arguments.out.mkdir(parents=True, exist_ok=True)
    machine = described()
    figures = [{**asdict(line), "ratio": line.ratio} for line in lines]
    (arguments.out / "lanes.json").write_text(json.dumps({"machine": machine, "figures": figures}, indent=2) + "\n")
    words = [f"- {what}: {value}" for what, value in machine.items()]
    (arguments.out / "lanes.md").write_text("\n".join([*words, "", table(lines), ""]))
    print(f"\n{table(lines)}\n\n{arguments.out / 'lanes.md'}")


if __name__ == "__main__":
    main()
