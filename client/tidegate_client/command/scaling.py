"""The command `tidegate scale`: how many workers each queue has and could use."""

import click
from rich.table import Table

from tidegate_client.command.session import Session, reaches_gateway


@click.command()
@click.argument("queue", required=False)
@reaches_gateway
def scale(session: Session, *, queue: str | None) -> None:
    """Tells how many workers each queue has and wants (operators); of one QUEUE the wanted number alone."""
    queues = session.client.scale()
    if queue is not None and queue not in queues:
        raise click.BadParameter(f"{queue!r} is not among {', '.join(queues)}", param_hint="QUEUE")
    shown = {queue: queues[queue]} if queue is not None else queues
    if session.is_json:
        session.document({"queues": shown})
    elif queue is not None:
        click.echo(shown[queue]["wanted"])
    elif session.out.is_terminal:
        table = Table(box=None, pad_edge=False)
        for heading in ("queue", "workers", "places", "wanted", ""):
            table.add_column(heading, justify="right" if heading in {"workers", "places", "wanted"} else "left")
        for name, each in shown.items():
            table.add_row(name, str(each["workers"]), str(each["places"]), str(each["wanted"]), each["because"])
        session.out.print(table)
    else:
        for name, each in shown.items():
            click.echo(f"{name}\t{each['workers']}\t{each['wanted']}\t{each['because']}")
