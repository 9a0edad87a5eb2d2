"""The table, the plot and the JSON of the scenarios' figures."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.pacing.arrivals import curve
from benchmarks.pacing.figures import Figures

_HEAD = ("scenario", "calls", "seconds", "utilisation", "most in any", "refused", "open", "double", "targets")


def table(rows: Sequence[Figures]) -> str:
    """Markdown, one line a scenario; below it each window that held more than was promised."""
    lines = [_HEAD, ("---",) * len(_HEAD), *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    shown = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([*shown, *(f"\n{row.title}: {each}" for row in rows for each in row.broken)])


def _cells(row: Figures) -> tuple[str, ...]:
    return (
        row.title,
        f"{row.calls}" + (f" ({row.unfinished} unfinished)" if row.unfinished else ""),
        f"{row.seconds:.1f}",
        "" if row.utilisation is None else f"{row.utilisation:.1%}",
        ", ".join(f"{window}: {most}" for window, most in row.most.items()),
        str(row.refused),
        str(row.most_open),
        str(row.doubles),
        "missed: " + ", ".join(row.misses) if row.misses else "kept",
    )


def write(folder: Path, name: str, rows: Sequence[Figures]) -> None:
    """NAME.json with every figure, and NAME.png: calls of the second before, over time, a panel a scenario."""
    import matplotlib as mpl  # noqa: PLC0415 - only this needs it, and it takes a second to load

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - only after the choice of the backend

    folder.mkdir(parents=True, exist_ok=True)
    shown = [{key: value for key, value in asdict(row).items() if key != "instants"} for row in rows]
    (folder / f"{name}.json").write_text(json.dumps(shown, indent=2) + "\n")
    figure, panels = plt.subplots(
        -(-len(rows) // 2), 2, figsize=(13, 2.4 * -(-len(rows) // 2)), squeeze=False, constrained_layout=True
    )
    for row, panel in zip(rows, panels.flat, strict=False):
        points = curve(row.instants, 0, row.instants[-1] + 1)
        panel.plot([at for at, _ in points], [count for _, count in points], linewidth=1)
        panel.set_title(row.title, fontsize=9)
        panel.set_ylim(bottom=0)
        panel.set_ylabel("calls in 1 s", fontsize=8)
        for at, what in row.events:
            panel.axvline(at, color="tab:red", linewidth=0.7)
            panel.text(at, 1, what, rotation=90, fontsize=6, va="bottom", ha="right", color="tab:red")
    for panel in panels.flat[len(rows) :]:
        panel.axis("off")
    figure.savefig(folder / f"{name}.png", dpi=110)
    plt.close(figure)
