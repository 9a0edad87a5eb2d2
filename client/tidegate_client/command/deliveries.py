"""Commands about deliveries: what was sent to webhooks, how that went, and sending it again."""

import itertools
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from tidegate_client.command.inputs import INSTANT
from tidegate_client.command.session import Session, reaches_gateway
from tidegate_client.command.shown import cut, first_line, moment
from tidegate_client.documents import Delivery, EventName
from tidegate_client.snapshot import instant

_STATES = ("waiting", "pending", "delivered", "failed")
_EVENTS: Sequence[EventName] = ("job.succeeded", "job.failed", "job.expired", "job.cancelled")
_EVENT = click.option("--event", type=click.Choice(_EVENTS), help="Of jobs that ended so.")
_STYLES = {"delivered": "green", "failed": "red"}


@click.group(invoke_without_command=True)
@click.pass_context
def deliveries(context: click.Context) -> None:
    """Shows what was sent to webhooks, and sends it again."""
    if context.invoked_subcommand is None:
        list_.main(args=[], prog_name="tidegate deliveries list")  # which reads the environment; invoke would not


@deliveries.command("list")
@click.option("--state", type=click.Choice(_STATES), help="Deliveries in this state.")
@_EVENT
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@reaches_gateway
def list_(session: Session, /, *, state: str | None, event: EventName | None, limit: int) -> None:
    """Lists deliveries, of the newest job first."""
    found = itertools.islice(session.client.deliveries(state=state, event=event), limit)
    if session.is_json:
        for delivery in found:
            session.document(delivery)
    elif session.out.is_terminal:
        session.out.print(_table(list(found)))
    else:
        for each in found:
            click.echo("\t".join((each["id"], each["state"], each["event"] or "", each["url"])))


@deliveries.command()
@click.argument("job_id")
@reaches_gateway
def show(session: Session, *, job_id: str) -> None:
    """Shows the delivery of a job with each attempt."""
    _show(session, session.client.delivery(job_id))


@deliveries.command()
@click.argument("job_id", required=False)
@click.option("--state", type=click.Choice(_STATES[1:]), help="Deliveries in this state; failed is what is usual.")
@_EVENT
@click.option("--created-after", type=INSTANT, help="Of jobs that ended then or later: 2026-12-24, or an age, 24h.")
@click.option("--created-before", type=INSTANT, help="Of jobs that ended earlier; likewise.")
@click.option("--client", help="Those of the client of this id (operators).")
@click.option("--limit", type=click.IntRange(1, 1000), default=1000, show_default=True, help="As many at the most.")
@reaches_gateway
def send(
    session: Session,
    *,
    job_id: str | None,
    state: str | None,
    event: EventName | None,
    created_after: datetime | None,
    created_before: datetime | None,
    client: str | None,
    limit: int,
) -> None:
    """Sends the end of a job again, whatever became of it, or those of many.

    Many: by --state and the other options; how many is written. At the limit there may be more: send again."""
    if job_id and any((state, event, created_after, created_before, client)):
        raise click.UsageError("JOB_ID and options that say which: give one of them")
    if job_id:
        _show(session, session.client.send_delivery(job_id))
        return
    if state is None:
        raise click.UsageError("say which: JOB_ID, or --state failed and what else holds")
    sent = session.client.send_deliveries(
        state=state, event=event, created_after=created_after, created_before=created_before, client=client, limit=limit
    )
    if session.is_json:
        session.document({"sent_again": sent})
    else:
        click.echo(f"{sent:,} sent again")


def _show(session: Session, delivery: Delivery) -> None:
    if session.is_json:
        session.document(delivery)
        return
    session.out.print(_table([delivery]))
    table = Table.grid(padding=(0, 2))
    for attempt in delivery["attempts"]:
        took = "" if attempt["seconds"] is None else f"{attempt['seconds']:.3f} s"
        status = "" if attempt["status"] is None else str(attempt["status"])
        at = moment(instant(attempt["started_at"]))
        table.add_row(f"{attempt['number']}.", at, took, status, Text(cut(attempt["error"] or "")))
    session.out.print(table)


def _table(found: Sequence[Delivery]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("job", "state", "event", "attempts", "next", "to"):
        table.add_column(heading, justify="right" if heading == "attempts" else "left", no_wrap=heading == "job")
    for each in found:
        cells: tuple[Any, ...] = (
            each["id"],
            Text(each["state"], style=_STYLES.get(each["state"], "")),
            each["event"] or "",
            str(len(each["attempts"])),
            moment(instant(each["next_attempt_at"])),
            Text(first_line(each["url"])),
        )
        table.add_row(*cells)
    return table
