"""Commands about a downstream's partitions: list, pause, resume, set; for operators."""

import itertools
from collections.abc import Iterable
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from tidegate_client.command.inputs import Command
from tidegate_client.command.lanes import DECLARED, number_of, rate_of
from tidegate_client.command.session import Session, reaches_gateway
from tidegate_client.command.shown import until
from tidegate_client.documents import Partition
from tidegate_client.snapshot import instant


class _ListsByDefault(click.Group):
    """`tidegate partitions crm` is `tidegate partitions list crm`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return super().resolve_command(ctx, ["list", *args])
        return super().resolve_command(ctx, args)


@click.group(cls=_ListsByDefault)
def partitions() -> None:
    """Shows, pauses and changes partitions of a downstream (operators).

    `tidegate partitions DOWNSTREAM` lists them.
    """


def WHICH(command: Command) -> Command:  # noqa: N802 - it stands among options, which are written so
    """The downstream and its partition."""
    for option in reversed(
        (
            click.argument("downstream"),
            click.argument("name", required=False),
            click.option("--client", help="Of the client of this id; without NAME its unnamed one, and its weight."),
        )
    ):
        command = option(command)
    return command


@partitions.command("list")
@click.argument("downstream")
@click.option("--sort", type=click.Choice(["waiting", "name"]), default="waiting", show_default=True)
@click.option("--client", help="Of the client of this id.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@reaches_gateway
def list_(session: Session, *, downstream: str, sort: Any, client: str | None, limit: int) -> None:
    """Lists partitions in which jobs wait, calls are open, or something was changed."""
    found = session.client.partitions(downstream, sort=sort, client=client)
    _show(session, itertools.islice(found, limit))


@partitions.command()
@WHICH
@reaches_gateway
def pause(session: Session, *, downstream: str, name: str | None, client: str | None) -> None:
    """Lets no job of a partition go; the others go on."""
    _show(session, [session.client.change_partition(downstream, name, client=client, paused=True)])


@partitions.command()
@WHICH
@reaches_gateway
def resume(session: Session, *, downstream: str, name: str | None, client: str | None) -> None:
    """Lets a paused partition go on."""
    _show(session, [session.client.change_partition(downstream, name, client=client, paused=False)])


@partitions.command("set")
@WHICH
@click.option("--weight", help="Its share beside the others, which have 1 by default.")
@click.option("--rate", "rates", multiple=True, help='Such as 5/s; several times for several; or "unlimited".')
@click.option("--burst", help="Calls that may go out at once.")
@click.option("--concurrency", help='Calls open at once; or "unlimited".')
@reaches_gateway
def set_(
    session: Session,
    /,
    *,
    downstream: str,
    name: str | None,
    client: str | None,
    weight: str | None,
    rates: tuple[str, ...],
    **numbers: Any,
) -> None:
    """Changes a partition, live, for what waits already, too. "declared" takes a change back."""
    changes: dict[str, Any] = {key: number_of(key, value) for key, value in numbers.items() if value is not None}
    if rates:
        changes["rate"] = rate_of(rates)
    if weight is not None:
        changes["weight"] = _weight(weight)
    if not changes:
        raise click.UsageError("say what to change: --weight, --rate, --burst or --concurrency")
    _show(session, [session.client.change_partition(downstream, name, client=client, **changes)])


def _weight(value: str) -> float | None:
    if value == DECLARED:
        return None
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f'{value!r} is no number and not "declared"', param_hint="--weight") from None


def _limits(each: Partition) -> str:
    parts = [", ".join(each["rate"]), f"{each['concurrency']} at once" if each["concurrency"] else ""]
    return ", ".join(part for part in (*parts, "in order" if each["order"] == "strict" else "") if part)


def _state_of(each: Partition) -> Text:
    rests_until = instant(each.get("resting_until"))  # an older gateway does not tell
    if each["paused"]:
        return Text("paused", style="yellow")
    return Text(f"rests {until(rests_until)}", style="yellow") if rests_until else Text("open", style="green")


def _show(session: Session, found: Iterable[Partition]) -> None:
    if session.is_json:
        for each in found:
            session.document(each)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("partition", "client", "state", "weight", "limits", "waiting", "in flight", "share"):
        is_number = heading in {"weight", "waiting", "in flight", "share"}
        table.add_column(heading, justify="right" if is_number else "left")
    for each in found:
        state = _state_of(each)
        changed = " (changed)" if each["changed"] else ""
        numbers = (
            str(each["waiting"]),
            str(each["in_flight"]),
            "" if each["share"] is None else f"{each['share']:.1%}",
        )
        names = (Text(each["name"] or "-"), Text(each["client"] or "(all)"))
        table.add_row(*names, state, f"{each['weight']:g}", Text(_limits(each) + changed), *numbers)
    session.out.print(table)
