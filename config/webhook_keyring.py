"""The keys that webhook secrets are made from: those of the setting, else one that lies in the data folder."""

import base64
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from config.settings import Settings, webhook_keys
from tidegate.errors import ConfigurationError
from tidegate.signatures import KEY_BYTES, Keyring

FILE_NAME = "webhook.key"


def load_keyring(settings: Settings) -> Keyring:
    """The keyring of these settings. Without a key in them, of the file in the data folder, which the first that asks
    makes."""
    if keys := webhook_keys(settings.webhook_key.get_secret_value()):
        return Keyring(keys)
    file = settings.data / FILE_NAME
    try:
        if not file.exists():
            _make(file)
        keys = webhook_keys(file.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} can't be used as the key of webhooks: {error}") from None
    if not keys:
        raise ConfigurationError(f"{file} is empty; put back the key that was there, or remove it and lose the secrets")
    return Keyring(keys)


def _make(file: Path) -> None:
    """Of several processes at once one makes it, and nobody ever sees a part of it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=FILE_NAME)  # readable by its owner only
    try:
        with os.fdopen(descriptor, "wb") as unfinished:
            unfinished.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            unfinished.flush()
            os.fsync(unfinished.fileno())
        with suppress(FileExistsError):
            os.link(name, file)
    finally:
        os.unlink(name)
