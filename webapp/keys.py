"""The command line for API keys, which creates, lists and revokes them: `tidegate keys`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import click
from sqlalchemy.exc import DBAPIError

from config.database import open_database
from config.settings import settings
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.errors import ConfigurationError, DatabaseUnreachableError
from tidegate.timeformat import parse_duration

NAME_LENGTH = 100


@click.group(help="API keys of this gateway's database.")
def main() -> None:
    """The command group."""


@main.command()
@click.argument("client")
@click.option("--name", default="", help="What the key is for.")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.CLIENT.value, show_default=True)
@click.option(
    "--partitions",
    type=click.Choice(["own", "any"]),
    default="own",
    show_default=True,
    help="Whose are the partitions that its submits name: its client's own, or those that all such keys share.",
)
@click.option("--expires", default=None, help='After how long it ends, such as "90d"; without: never.')
def create(client: str, name: str, role: str, partitions: str, expires: str | None) -> None:
    """Makes a key for CLIENT (made too if it is new) and shows it, once."""
    for value, hint in ((client, "CLIENT"), (name, "--name")):
        if len(value) > NAME_LENGTH or (hint == "CLIENT" and not value.strip()):
            raise click.BadParameter(f"1 to {NAME_LENGTH} characters", param_hint=hint)
    try:
        expires_in = parse_duration(expires) if expires else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires") from None
    with _open() as keys:
        key_id, secret = keys.create(
            client, name=name, role=Role(role), expires_in=expires_in, names_shared=partitions == "any"
        )
    click.echo(secret)
    click.echo(f"Key {key_id} of {client} ({role}). It is shown this once; keep it.", err=True)


@main.command("list")
def list_() -> None:
    """Lists every key, without its secret."""
    with _open() as keys:
        found = keys.list()
    for key in found:
        end = f"revoked {_day(key.revoked_at)}" if key.revoked_at else f"until {_day(key.expires_at) or 'revoked'}"
        shared = "  any partition" if key.names_shared else ""
        told = f"{key.id}  {key.role:<8}  {key.client:<20}  created {_day(key.created_at)}  {end}{shared}  {key.name}"
        click.echo(told)


@main.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Makes the key useless, within seconds."""
    with _open() as keys:
        was_revoked = keys.revoke(key_id)
    if not was_revoked:
        raise click.ClickException(f"there is no key {key_id} that could be revoked")


@contextmanager
def _open() -> Iterator[KeyStore]:
    try:
        database = open_database(settings(), pool_size=1)
    except ConfigurationError as error:
        click.echo(error, err=True)
        sys.exit(2)
    try:
        yield KeyStore(database)
    except (DBAPIError, DatabaseUnreachableError) as error:
        click.echo(f"The database can't be used: {error.orig if isinstance(error, DBAPIError) else error}", err=True)
        click.echo("A new one gets its tables by: python -m migrations.upgrade", err=True)
        sys.exit(1)
    finally:
        database.close()


def _day(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M}" if instant else ""


if __name__ == "__main__":
    main(prog_name="tidegate keys")
