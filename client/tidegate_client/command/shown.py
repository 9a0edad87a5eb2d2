"""How jobs and times look in a terminal."""

from datetime import datetime

from rich.table import Table
from rich.text import Text

from tidegate_client import clock
from tidegate_client.snapshot import Snapshot, State, Waiting

MOST_LINES, MOST_CHARACTERS = 8, 800
"""Of a text that comes from elsewhere: a downstream's stack trace must not push all else off the screen."""
TICKS = {
    State.QUEUED: ("✓", "dim"),
    State.RUNNING: ("✓✓", "dim"),
    State.SUCCEEDED: ("✓✓", "green"),
    State.FAILED: ("✗", "red"),
    State.EXPIRED: ("✗", "red"),
    State.CANCELLED: ("✗", "yellow"),
}
"""As messengers have it: queued, with a worker, done; a cross when there will be no result."""


def cut(text: str) -> str:
    """The beginning of somebody else's text, with what could move a terminal's cursor shown as a blank."""
    safe = "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text.expandtabs(4))
    lines = safe[:MOST_CHARACTERS].splitlines()[:MOST_LINES]
    shown = "\n".join(lines)
    left = len(safe) - len(shown)
    return f"{shown}\n… {left:,} characters more, in --json" if left > 1 else shown


def first_line(text: str) -> str:
    """Its first line, likewise."""
    return cut(text.strip().partition("\n")[0])


def ticks(state: State) -> Text:
    """The job's state as a sign."""
    return Text(*TICKS[state])


def span(seconds: float) -> str:
    """A duration at a glance: 4 s, 3 min 20 s, 2 h 5 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def until(moment: datetime) -> str:
    """How long from now."""
    return span((moment - clock.now()).total_seconds())


def moment(instant: datetime | None) -> str:
    """An instant on this machine's clock; with its day when that is not today."""
    if instant is None:
        return ""
    local = instant.astimezone()
    is_today = local.date() == clock.now().astimezone().date()
    return local.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S")


def reason(waiting: Waiting) -> str:
    """Why it waits; with the instant that its caller asked for."""
    if waiting.reason == "not_before" and waiting.estimated_start:
        return f"not_before {moment(waiting.estimated_start)}"
    return waiting.reason


def why_it_waits(seen: Snapshot) -> str:
    """Why, how many go before it, and when it should be done; empty for one that does not wait."""
    if not seen.waiting:
        return ""
    position = seen.waiting.position
    parts = [reason(seen.waiting)]
    if position is not None:
        parts.append(f"{position} ahead" if position else "next")
    if seen.waiting.estimated_finish:
        parts.append(f"done in about {until(seen.waiting.estimated_finish)}")
    if not seen.waiting.in_time:
        parts.append("too late for its deadline")
    return ", ".join(parts)


def card(seen: Snapshot) -> Table:
    """Everything about one job."""
    table = Table.grid(padding=(0, 2))
    table.add_row(ticks(seen.state), f"{seen.operation} {seen.id}")
    table.add_row("", f"{seen.state}, {seen.percent} %, attempt {seen.attempt} of {seen.max_attempts}")
    lines = {
        "client": seen.client,
        "waits": why_it_waits(seen),
        "note": cut(seen.note or ""),
        "created": moment(seen.created_at),
        "started": moment(seen.started_at),
        "ended": moment(seen.finished_at),
        "deadline": None if seen.state.is_final else moment(seen.deadline),
        "retry of": seen.retry_of,
        "error": cut(f"{seen.error.code}: {seen.error.message}") if seen.error else None,
        "downstream": cut(seen.error.downstream_body or "") if seen.error else None,
    }
    for name, line in lines.items():
        if line:
            table.add_row("", Text.assemble((f"{name:<12}", "dim"), line))
    return table


def rows(jobs: list[Snapshot]) -> Table:
    """Many jobs, one a line."""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "job", "operation", "state", "%", "created", ""):
        table.add_column(heading, justify="right" if heading == "%" else "left", no_wrap=heading == "job")
    for seen in jobs:
        more = why_it_waits(seen) or first_line((seen.error.message if seen.error else seen.note) or "")
        made = moment(seen.created_at)
        table.add_row(ticks(seen.state), seen.id, seen.operation, seen.state, str(seen.percent), made, Text(more))
    return table
