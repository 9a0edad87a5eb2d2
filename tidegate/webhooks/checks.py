"""Checks a webhook at the submit: its URL, as far as it can be known then, and that there is a secret to sign with."""

import threading

from tidegate import clock
from tidegate.errors import InvalidWebhook
from tidegate.webhooks.delivery import Webhook
from tidegate.webhooks.egress import Egress
from tidegate.webhooks.secret_store import SecretStore
from tidegate.webhooks.url import check, parse

_FRESH_SECONDS = 2.0
_MOST_REMEMBERED = 10_000


class WebhookChecks:
    """The check of webhooks. Remembers for 2 s that a client has a secret: a bulk submit asks the database once."""

    def __init__(self, egress: Egress, secrets: SecretStore) -> None:
        self._egress = egress
        self._secrets = secrets
        self._has_secret: dict[str, float] = {}
        self._lock = threading.Lock()

    def check(self, webhook: Webhook, client_id: str) -> None:
        """Raises InvalidWebhook for a webhook that can't be sent, or not be signed."""
        self.check_url(webhook)
        if not self._can_sign(client_id):
            raise InvalidWebhook("there is no secret to sign with; make one first: POST /v1/webhook-secrets")

    def check_url(self, webhook: Webhook) -> None:
        """Raises InvalidWebhook for a URL that can't be sent to, whoever the client is."""
        try:
            check(parse(webhook.url), self._egress)
        except ValueError as error:
            raise InvalidWebhook(str(error)) from None

    def _can_sign(self, client_id: str) -> bool:
        with self._lock:
            is_fresh = clock.monotonic() < self._has_secret.get(client_id, 0.0)
        if is_fresh:
            return True
        if not self._secrets.signing(client_id):
            return False
        with self._lock:
            if len(self._has_secret) >= _MOST_REMEMBERED:
                self._has_secret.clear()
            self._has_secret[client_id] = clock.monotonic() + _FRESH_SECONDS
        return True
