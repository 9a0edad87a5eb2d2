"""The command `tidegate operations`: what there is to submit to."""

import json

import click
from rich.table import Table
from rich.text import Text

from tidegate_client.command.session import Session, reaches_gateway
from tidegate_client.command.shown import first_line, span
from tidegate_client.documents import Operation


@click.command()
@click.argument("name", required=False)
@reaches_gateway
def operations(session: Session, *, name: str | None) -> None:
    """Lists the operations, or shows NAME with the schema of its input."""
    found = [session.client.operation(name)] if name else session.client.operations()
    if session.is_json:
        for each in found:
            session.document(each)
    elif session.out.is_terminal or name:
        session.out.print(_table(found))
        if name:
            session.out.print(_input_of(found[0]))
    else:
        for each in found:
            click.echo("\t".join((each["name"], each["downstream"]["name"], str(each["backlog"]))))


def _table(found: list[Operation]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("operation", "downstream", "timeout", "waiting", ""):
        table.add_column(heading, justify="right" if heading in {"timeout", "waiting"} else "left")
    for each in found:
        told = Text(first_line(each.get("description") or ""), style="dim")
        table.add_row(each["name"], each["downstream"]["name"], span(each["timeout"]), f"{each['backlog']:,}", told)
    return table


def _input_of(operation: Operation) -> Text:
    if operation.get("input_schema"):
        return Text(f"input: {json.dumps(operation['input_schema'], indent=2, ensure_ascii=False)}")
    return Text("input: what its downstream takes, passed on as it is")
