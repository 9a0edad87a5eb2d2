"""Both bursts side by side: in the terminal, and as a PNG."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.columns import Columns
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from demo.bursts import Burst

ROWS, COLUMNS = 12, 30
BLUE, GREEN, RED = "#2b6cb0", "#2f855a", "#c53030"


def show(console: Console, straight: Burst, through: Burst, rate: str) -> None:
    """A plot of each, and the figures of both."""
    panels = [
        Panel(_plot(straight), title="straight at the API", width=COLUMNS + 9),
        Panel(_plot(through), title="through Tidegate", width=COLUMNS + 9),
    ]
    console.print(Columns(panels))
    table = Table(box=None, pad_edge=False)
    for heading in ("", "straight", "through Tidegate"):
        table.add_column(heading, justify="left" if not heading else "right")
    both = (straight, through)
    table.add_row("requests in one burst", *(str(burst.requests) for burst in both))
    table.add_row("refused by the API", *(_refusals(burst) for burst in both))
    table.add_row("got their quote", *(f"[bold]{len(burst.quotes)}[/]" for burst in both))
    table.add_row("last caller was answered after", *(f"{_last(burst.taken, burst.refused):.1f} s" for burst in both))
    table.add_row("last quote after", *(f"{_last(burst.quotes):.1f} s" for burst in both))
    console.print(table)
    console.print(
        f"The API takes {rate}. Tidegate accepted every request at once (202) and kept to that.", soft_wrap=True
    )


def save(path: Path, straight: Burst, through: Burst, rate: str) -> None:
    """The same as a picture."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    figure.suptitle(f"{straight.requests} requests in one burst at an API that takes {rate}")
    _draw(left, straight, f"Straight at the API: {len(straight.refused)} refused")
    _draw(right, through, f"Through Tidegate: {through.refused_by_downstream} refused")
    left.set_ylabel("requests")
    figure.savefig(path, dpi=130)


def _draw(axes: Axes, burst: Burst, title: str) -> None:
    end = max(burst.seconds * 1.05, 1.0)
    lines = [("got their quote", burst.quotes, GREEN, "-", 2.5), ("refused (429, 503)", burst.refused, RED, "-", 2.5)]
    if burst.taken is not burst.quotes:
        lines.insert(0, ("accepted (202)", burst.taken, BLUE, "--", 1.8))
    for label, instants, colour, style, width in lines:
        x, y = [0.0, *instants, end], [*range(len(instants) + 1), len(instants)]
        axes.step(x, y, where="post", color=colour, linestyle=style, linewidth=width, label=f"{label}: {len(instants)}")
    axes.set_title(title)
    axes.set_xlabel("seconds since the burst began")
    axes.set_xlim(0, end)
    axes.set_ylim(0, burst.requests * 1.06)
    axes.grid(alpha=0.25)
    # Where no line goes: beside the few quotes of the one, under the slope of the other.
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.1), framealpha=0.95)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _plot(burst: Burst) -> Group:
    """Quotes (green) and refusals (red) so far, column by column, up to the last answer."""
    step = max(burst.seconds, 0.001) / COLUMNS
    ends = [step * (column + 1) for column in range(COLUMNS)]
    quotes = [_until(burst.quotes, end) for end in ends]
    refused = [_until(burst.refused, end) for end in ends]
    lines = []
    for row in range(ROWS, 0, -1):
        label = f"{round(burst.requests * row / ROWS):>4} " if row in {1, ROWS // 2, ROWS} else "     "
        line = Text(label, style="dim")
        floor = burst.requests * (row - 0.5) / ROWS
        for got, lost in zip(quotes, refused, strict=True):
            if got >= floor:
                line.append("█", style="green")
            elif got + lost >= floor:
                line.append("█", style="red")
            else:
                line.append(" ")
        lines.append(line)
    lines.append(Text(f"     0 s{f'{burst.seconds:.1f} s':>{COLUMNS - 3}}", style="dim"))
    legend = Text("     ").append("█ ", "green").append(f"{len(burst.quotes)} quotes  ")
    return Group(*lines, legend.append("█ ", "red").append(f"{len(burst.refused)} refused"))


def _until(instants: Sequence[float], end: float) -> int:
    return sum(instant <= end + 1e-9 for instant in instants)


def _last(*instants: Sequence[float]) -> float:
    return max((each for several in instants for each in several), default=0.0)


def _refusals(burst: Burst) -> str:
    count = burst.refused_by_downstream
    return f"[bold {'red' if count else 'green'}]{count}[/]"
