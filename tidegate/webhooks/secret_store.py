"""Webhook signing secrets in the database: rotate, list, end. The rows alone are not enough to make one."""

import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta

import uuid_utils
from sqlalchemy import ColumnElement, insert, or_, select, update

from tidegate.database.connection import Database
from tidegate.database.schema import webhook_secrets
from tidegate.database.time import database_now
from tidegate.webhooks.signing import SALT_BYTES, Keyring, WebhookSecret, shown

log = logging.getLogger(__name__)


class SecretStore:
    """Statements on signing secrets. `keyring` loads the keys that make them, at the first use."""

    def __init__(self, database: Database, keyring: Callable[[], Keyring]) -> None:
        self._database = database
        self._load = keyring

    @property
    def _keyring(self) -> Keyring:
        return self._load()

    def rotate(self, client_id: str, *, overlap: timedelta) -> tuple[WebhookSecret, str]:
        """Makes a new secret; returns it with its text, which nobody can show again.

        The one before it goes on signing beside it for `overlap`; older ones end now, so that there are never more than
        two signatures.
        """
        secret_id, salt = str(uuid_utils.uuid7()), secrets.token_bytes(SALT_BYTES)
        with self._database.transaction() as connection:
            now = connection.execute(select(database_now())).scalar_one()
            newest = select(webhook_secrets.c.id).where(_is_of(client_id), webhook_secrets.c.signs_until.is_(None))
            before = connection.execute(newest.order_by(webhook_secrets.c.id.desc()).limit(1)).scalar_one_or_none()
            # Of two rotations at once on PostgreSQL neither ends the other's, and both sign until the next one.
            connection.execute(
                update(webhook_secrets)
                .where(_is_of(client_id), _signs(), webhook_secrets.c.id != (before or ""))
                .values(signs_until=now)
            )
            connection.execute(
                update(webhook_secrets).where(webhook_secrets.c.id == before).values(signs_until=now + overlap)
            )
            connection.execute(
                insert(webhook_secrets).values(
                    id=secret_id, client_id=client_id, key_id=self._keyring.newest, salt=salt, created_at=now
                )
            )
        made = WebhookSecret(id=secret_id, client_id=client_id, created_at=now, signs_until=None)
        return made, shown(self._keyring.secret(self._keyring.newest, salt))

    def all_of(self, client_id: str | None) -> Sequence[WebhookSecret]:
        """The secrets that sign now, newest first; `client_id` None: every client's."""
        mine = () if client_id is None else (_is_of(client_id),)
        rows = self._database.fetch_all(
            select(webhook_secrets).where(_signs(), *mine).order_by(webhook_secrets.c.id.desc())
        )
        return [
            WebhookSecret(id=row.id, client_id=row.client_id, created_at=row.created_at, signs_until=row.signs_until)
            for row in rows
        ]

    def end(self, secret_id: str, client_id: str | None) -> bool:
        """Ends a secret: it signs no more. False: it did not, or is another client's."""
        mine = () if client_id is None else (_is_of(client_id),)
        this = update(webhook_secrets).where(webhook_secrets.c.id == secret_id, *mine, _signs())
        return self._database.execute(this.values(signs_until=database_now())) == 1

    def signing(self, client_id: str) -> list[bytes]:
        """The secrets to sign with now, newest first.

        None where the client has none, or all were made from keys that this process does not have.
        """
        rows = self._database.fetch_all(
            select(webhook_secrets.c.key_id, webhook_secrets.c.salt)
            .where(_is_of(client_id), _signs())
            .order_by(webhook_secrets.c.id.desc())
        )
        known = [row for row in rows if row.key_id in self._keyring.ids]
        if len(known) < len(rows):
            log.error(
                "client %s has a secret that was made from another key than this process has; "
                "give all processes the same TIDEGATE_WEBHOOK_KEY",
                client_id,
            )
        return [self._keyring.secret(row.key_id, row.salt) for row in known]


def _is_of(client_id: str) -> ColumnElement[bool]:
    return webhook_secrets.c.client_id == client_id


def _signs() -> ColumnElement[bool]:
    return or_(webhook_secrets.c.signs_until.is_(None), webhook_secrets.c.signs_until > database_now())
