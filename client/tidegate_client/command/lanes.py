"""Commands about downstreams: list, show, pause, resume, set; for operators."""

from collections.abc import Sequence
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from tidegate_client.command.session import Session, reaches_gateway
from tidegate_client.command.shown import until
from tidegate_client.documents import Downstream
from tidegate_client.snapshot import instant

DECLARED = "declared"


@click.group(invoke_without_command=True)
@click.pass_context
def downstreams(context: click.Context) -> None:
    """Shows, pauses and changes downstreams (operators)."""
    if context.invoked_subcommand is None:
        list_.main(args=[], prog_name="tidegate downstreams list")  # which reads the environment; invoke would not


@downstreams.command("list")
@reaches_gateway
def list_(session: Session) -> None:
    """Lists every downstream."""
    _show(session, session.client.downstreams())


@downstreams.command()
@click.argument("name")
@reaches_gateway
def show(session: Session, *, name: str) -> None:
    """Shows one downstream."""
    _show(session, [session.client.downstream(name)])


@downstreams.command()
@click.argument("name")
@reaches_gateway
def pause(session: Session, *, name: str) -> None:
    """Lets nothing go to a downstream; its jobs wait."""
    _show(session, [session.client.change_downstream(name, paused=True)])


@downstreams.command()
@click.argument("name")
@reaches_gateway
def resume(session: Session, *, name: str) -> None:
    """Lets a paused downstream go on, or one that rests because of its own answers."""
    _show(session, [session.client.change_downstream(name, paused=False)])


@downstreams.command("set")
@click.argument("name")
@click.option("--rate", "rates", multiple=True, help='Such as 50/s; several times for several; or "unlimited".')
@click.option("--burst", help="Calls that may go out at once.")
@click.option("--concurrency", help='Calls open at once; or "unlimited".')
@click.option("--breaker", help="Failures in a row that open the breaker; 0: none.")
@reaches_gateway
def set_(session: Session, /, *, name: str, rates: tuple[str, ...], **numbers: Any) -> None:
    """Changes limits, live and for the whole cluster. "declared" takes a change back to the operations file's value."""
    changes: dict[str, Any] = {key: number_of(key, value) for key, value in numbers.items() if value is not None}
    if rates:
        changes["rate"] = rate_of(rates)
    if not changes:
        raise click.UsageError("say what to change: --rate, --burst, --concurrency or --breaker")
    _show(session, [session.client.change_downstream(name, **changes)])


def state_of(lane: Downstream) -> Text:
    """What a lane does now, in a word or two."""
    rests_until = instant(lane["resting_until"])
    if lane["paused"]:
        return Text("paused", style="yellow")
    if lane["breaker_open"]:
        return Text("breaker open", style="red")
    if rests_until:
        return Text(f"rests {until(rests_until)}", style="yellow")
    return Text("open", style="green")


def limits_of(lane: Downstream) -> str:
    """Its rates and its concurrency."""
    rate = ", ".join(lane["rate"]) or "any rate"
    return rate + (f", {lane['concurrency']} at once" if lane["concurrency"] else "")


def rate_of(rates: tuple[str, ...]) -> str | list[str] | None:
    """The new rate as it is typed; None for "declared"."""
    if rates == (DECLARED,):
        return None
    return rates[0] if len(rates) == 1 else list(rates)


def number_of(key: str, value: str) -> int | str | None:
    """The new value of a limit as it is typed; None for "declared"."""
    if value == DECLARED:
        return None
    if value == "unlimited":
        return value
    if not value.isdecimal():
        raise click.BadParameter(f'{value!r} is not a whole number, "unlimited" or "declared"', param_hint=f"--{key}")
    return int(value)


def _show(session: Session, lanes: Sequence[Downstream]) -> None:
    if session.is_json:
        for lane in lanes:
            session.document(lane)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("downstream", "state", "limits", "waiting", "in flight"):
        table.add_column(heading, justify="right" if heading in {"waiting", "in flight"} else "left")
    for lane in lanes:
        changed = " (changed)" if lane["changed"] else ""
        cells = (lane["name"], state_of(lane), limits_of(lane) + changed, str(lane["backlog"]), str(lane["in_flight"]))
        table.add_row(*cells)
    session.out.print(table)
    for lane in lanes:
        for warning in lane.get("warnings", ()):  # an older gateway has none
            session.out.print(Text(f"{lane['name']}: {warning['message']}", style="yellow"))
