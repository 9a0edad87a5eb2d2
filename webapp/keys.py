"""The command that makes, lists and revokes API keys: `python -m webapp.keys`."""

import sys
from datetime import datetime

import click

from config.settings import settings
from tidegate.database import Database
from tidegate.durations import parse_duration
from tidegate.errors import ConfigurationError
from tidegate.keys import KeyStore, Role


@click.group(help="API keys of this gateway's database.")
def main() -> None:
    """The group of the three commands."""


@main.command()
@click.argument("client")
@click.option("--name", default="", help="What the key is for.")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.CLIENT.value, show_default=True)
@click.option("--expires", default=None, help='After how long it ends, such as "90d"; without: never.')
def create(client: str, name: str, role: str, expires: str | None) -> None:
    """Makes a key for CLIENT (made too if it is new) and shows it, once."""
    try:
        expires_in = parse_duration(expires) if expires else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires") from None
    key_id, secret = _keys().create(client, name=name, role=Role(role), expires_in=expires_in)
    click.echo(secret)
    click.echo(f"Key {key_id} of {client} ({role}). It is shown this once; keep it.", err=True)


@main.command("list")
def list_() -> None:
    """Lists every key, without its secret."""
    for key in _keys().list():
        end = f"revoked {_day(key.revoked_at)}" if key.revoked_at else f"until {_day(key.expires_at) or 'revoked'}"
        click.echo(f"{key.id}  {key.role:<8}  {key.client:<20}  made {_day(key.created_at)}  {end}  {key.name}")


@main.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Makes the key useless, within seconds."""
    if not _keys().revoke(key_id):
        raise click.ClickException(f"there is no key {key_id} that could be revoked")


def _keys() -> KeyStore:
    try:
        return KeyStore(Database(settings().database, pool_size=1))
    except ConfigurationError as error:
        click.echo(error, err=True)
        sys.exit(2)


def _day(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M}" if instant else ""


if __name__ == "__main__":
    main(prog_name="python -m webapp.keys")
