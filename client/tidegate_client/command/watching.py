"""`tidegate watch`: all downstreams, live in the terminal."""

import re
from collections import defaultdict, deque
from collections.abc import Sequence

import click
from rich.box import SIMPLE_HEAD
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tidegate_client import clock
from tidegate_client.command.lanes import state_of
from tidegate_client.command.session import LONG_PATIENCE, Session, reaches_gateway
from tidegate_client.command.shown import span
from tidegate_client.documents import Downstream

HISTORY = 30
HEADINGS = ("downstream", "state", "rate", "waiting", "in flight", "out/s", "empty in")
ROOM = 84
"""Columns that a table without history needs; what is left in the terminal is the history's."""
BLOCKS = " ▁▂▃▄▅▆▇█"
_PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Lanes:
    """What was seen of the lanes so far. What goes out is told by how their count of released jobs grows."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int]] = {}
        self.speeds: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=HISTORY))

    def see(self, lane: Downstream, at: float) -> None:
        """Takes in one look at a lane at this instant (monotonic seconds)."""
        name, released = lane["name"], lane["released"]
        if name in self._last:
            before, count = self._last[name]
            if at > before:
                self.speeds[name].append(max(0, released - count) / (at - before))
        self._last[name] = at, released

    def speed(self, name: str) -> float | None:
        """Jobs a second over the last looks; None after the first one."""
        recent = list(self.speeds[name])[-3:]
        return sum(recent) / len(recent) if recent else None


@click.command()
@click.option("--every", type=click.FloatRange(0.2, 60), default=1.0, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="One look, and done.")
@reaches_gateway
def watch(session: Session, every: float, once: bool) -> None:
    """Shows every downstream live (operators).

    What waits, what goes out and what may, and when it will be empty. Ctrl-C ends it."""
    lanes = Lanes()
    found = _look(session, lanes)
    if once or session.is_json or not session.out.is_terminal:
        while True:
            if session.is_json:
                for lane in found:
                    session.document(lane)
            else:
                session.out.print(_table(found, lanes, session.out.width))
            if once:
                return
            clock.sleep(every)
            found = _look(session, lanes)
    session.client.patience = LONG_PATIENCE
    with Live(_table(found, lanes, session.out.width), console=session.out, auto_refresh=False, screen=True) as live:
        while True:
            clock.sleep(every)
            found = _look(session, lanes)
            live.update(_table(found, lanes, session.out.width), refresh=True)


def sparkline(speeds: Sequence[float], top: float) -> str:
    """The last speeds as blocks; a full one is `top`."""
    scale = max(top, *speeds, 0.001) if speeds else 1.0
    return "".join(BLOCKS[round(speed / scale * (len(BLOCKS) - 1))] for speed in speeds)


def allowed(lane: Downstream) -> float | None:
    """Calls a second that its lowest rate allows; None without one."""
    rates = [re.fullmatch(r"([\d.]+)\s*/\s*(\d*)([smhd])", rate.strip()) for rate in lane["rate"]]
    speeds = [float(rate[1]) / (int(rate[2] or 1) * _PERIODS[rate[3]]) for rate in rates if rate]
    return min(speeds, default=None)


def _look(session: Session, lanes: Lanes) -> list[Downstream]:
    found = session.client.downstreams()
    at = clock.monotonic()
    for lane in found:
        lanes.see(lane, at)
    return found


def _table(found: Sequence[Downstream], lanes: Lanes, width: int) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    history = min(HISTORY, max(0, width - ROOM))
    for heading in (*HEADINGS, *([""] if history else [])):
        is_number = heading in HEADINGS[3:]
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=True, overflow="ellipsis")
    for lane in found:
        name, backlog, limit = lane["name"], lane["backlog"], allowed(lane)
        speed = lanes.speed(name)
        pace = speed or (limit if not lane["paused"] else None)
        cells = (
            Text(name[:16]),
            state_of(lane),
            ", ".join(lane["rate"]) or "any",
            f"{backlog:,}",
            f"{lane['in_flight']}/{lane['concurrency']}" if lane["concurrency"] else str(lane["in_flight"]),
            "" if speed is None else f"{speed:.1f}",
            "" if not backlog else span(backlog / pace) if pace else "?",
        )
        blocks = Text(sparkline(list(lanes.speeds[name])[-history:], limit or 0), style="cyan")
        table.add_row(*cells, *([blocks] if history else []))
    return table
