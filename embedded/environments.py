"""The environment variables of each child process: what it needs, and no secret of another one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from config.broker_url import REDIS, SQS, scheme_of
from config.environment import IN_A_FILE, environment
from config.settings import PREFIX, Settings

# Variables that any program may need.
_SYSTEM = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM"})
_SYSTEM_PREFIXES = ("LC_", "LD_", "DYLD_", "PYTHON", "MALLOC_")
# Variables of OpenSSL, libpq and OpenTelemetry: for processes that use the database and send spans.
_SERVICES = ("SSL_CERT_", "PG", "OTEL_")
# For processes that use SQS.
_AWS = ("AWS_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True, kw_only=True)
class Environments:
    """Makes each child's environment of our own, the file .env and `decided`, which goes before both."""

    settings: Settings
    given: Mapping[str, str]
    decided: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings, decided: Mapping[str, str]) -> "Environments":
        """Makes it for this start."""
        return cls(settings=settings, given=environment(), decided=decided)

    def bare(self) -> dict[str, str]:
        """The environment of the broker and the sample downstream: no setting and no secret.

        The data folder, by which leftover processes are recognized, is in it.
        """
        kept = {name: self.decided[name] for name in (f"{PREFIX}DATA", "PYTHONUNBUFFERED")}
        return {**self._taken(_SYSTEM, _SYSTEM_PREFIXES), **kept}

    def of_web(self) -> dict[str, str]:
        """The environment of the web server: all settings but the sealing key, and nothing that operations send.

        It speaks to a Redis only, to ring and to hear; of another broker it is told what it is.
        """
        broker_url = self.settings.broker_url
        told = {} if scheme_of(broker_url) in {"", *REDIS} else _said("BROKER_URL", _without_password(broker_url))
        keys = self._withheld(but=("webhook_key", "signing_key"))
        return {**self._of_service(), **self.decided, **keys, **told}

    def of_scheduler(self) -> dict[str, str]:
        """The environment of the scheduler: settings that are no secrets, and the URLs of database and broker."""
        return {**self._of_service(), **self._of_sqs(), **self.decided, **self._withheld()}

    def of_webhooks(self) -> dict[str, str]:
        """The environment of the worker that sends webhooks: the scheduler's, and the webhook key."""
        return {**self._of_service(), **self._of_sqs(), **self.decided, **self._withheld(but=("webhook_key",))}

    def of_operations(self) -> dict[str, str]:
        """The environment of workers of operations: everything but our own keys, of which they have the sealing key.

        An operation may refer to any variable.
        """
        clients = {f"{PREFIX}KEY", f"{PREFIX}URL"}
        everything = {name: value for name, value in self.given.items() if name not in clients}
        return {**everything, **self.decided, **self._withheld(but=("sealing_key",))}

    def _of_service(self) -> dict[str, str]:
        fields = {PREFIX + field.upper() for field in type(self.settings).model_fields}
        names = {*_SYSTEM, *fields, *(name + IN_A_FILE for name in fields), *self.settings.shared_environment}
        return self._taken(names, (*_SYSTEM_PREFIXES, *_SERVICES))

    def _of_sqs(self) -> dict[str, str]:
        return self._taken((), _AWS) if scheme_of(self.settings.broker_url) == SQS else {}

    def _taken(self, names: Iterable[str], prefixes: tuple[str, ...]) -> dict[str, str]:
        wanted = frozenset(names)
        return {name: value for name, value in self.given.items() if name in wanted or name.startswith(prefixes)}

    def _withheld(self, but: Iterable[str] = ()) -> dict[str, str]:
        fields = type(self.settings).model_fields
        secrets = [name for name, field in fields.items() if field.annotation is SecretStr and name not in but]
        return {name: value for secret in secrets for name, value in _said(secret.upper(), "").items()}


def _said(name: str, value: str) -> dict[str, str]:
    """A setting set explicitly: one that is left out would be read from the file .env again."""
    return {PREFIX + name: value, PREFIX + name + IN_A_FILE: ""}


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"
