"""Commands about the secrets that webhooks are signed with: list, new, end."""

import click
from rich.table import Table

from tidegate_client.command.inputs import SECONDS
from tidegate_client.command.session import Session, reaches_gateway
from tidegate_client.command.shown import moment
from tidegate_client.snapshot import instant


@click.group("webhook-secrets", invoke_without_command=True)
@click.pass_context
def webhook_secrets(context: click.Context) -> None:
    """Makes, lists and ends the secrets that webhooks are signed with."""
    if context.invoked_subcommand is None:
        list_.main(args=[], prog_name="tidegate webhook-secrets list")  # which reads the environment


@webhook_secrets.command("list")
@reaches_gateway
def list_(session: Session) -> None:
    """Lists those that sign now, newest first, without their text."""
    found = session.client.webhook_secrets()
    if session.is_json:
        for secret in found:
            session.document(secret)
    elif session.out.is_terminal:
        table = Table(box=None, pad_edge=False)
        for heading in ("secret", "client", "created", "signs until"):
            table.add_column(heading, no_wrap=heading == "secret")
        for secret in found:
            created, until = moment(instant(secret["created_at"])), moment(instant(secret["signs_until"]))
            table.add_row(secret["id"], secret["client_id"], created, until or "it is rotated")
        session.out.print(table)
    else:
        for secret in found:
            click.echo(
                "\t".join((secret["id"], secret["client_id"], secret["created_at"], secret["signs_until"] or ""))
            )


@webhook_secrets.command()
@click.option("--overlap", type=SECONDS, help="How long the one before it signs beside it; without, a day.")
@reaches_gateway
def new(session: Session, *, overlap: float | None) -> None:
    """Makes a secret and writes its text, which is shown this once."""
    made = session.client.new_webhook_secret(overlap=overlap)
    if session.is_json:
        session.document(made)
    else:
        click.echo(made["secret"])
        session.say(f"Its id, to end it: {made['id']}")


@webhook_secrets.command()
@click.argument("secret_id")
@reaches_gateway
def end(session: Session, *, secret_id: str) -> None:
    """Ends a secret at once, as when it became known."""
    session.client.end_webhook_secret(secret_id)
    session.say("It signs no more.")
