"""Secret keys from a setting, else from a file in the data folder, which is made at the first use."""

import base64
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from tidegate.errors import ConfigurationError
from tidegate.webhooks.signing import KEY_BYTES


def keys_in(text: str) -> list[bytes]:
    """Parses the keys in a setting's value; raises ValueError for a malformed one."""
    keys = []
    for each in filter(None, map(str.strip, text.split(","))):
        try:
            key = base64.b64decode(each, validate=True)
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise ValueError(
                f"each key is {KEY_BYTES} bytes in base64; make one with: openssl rand -base64 {KEY_BYTES}"
            )
        keys.append(key)
    return keys


def check_given_keys(setting: SecretStr) -> SecretStr:
    """Raises ValueError for a malformed value of a setting."""
    keys_in(setting.get_secret_value())
    return setting


def keys_of(given: str, file: Path, *, purpose: str, loss: str) -> list[bytes]:
    """The keys in the setting's value, else in the file, which is made if it is missing. Raises ConfigurationError.

    `loss`: what is lost with the file.
    """
    if keys := keys_in(given):
        return keys
    try:
        if not file.exists():
            _make(file)
    except OSError as error:
        raise ConfigurationError(f"{file} can't be made as the key of {purpose}: {error.strerror}") from None
    return _read(file, purpose=purpose, loss=loss)


def check_keys(given: str, file: Path, *, purpose: str, loss: str) -> None:
    """Raises ConfigurationError for a key file that exists, is needed and can't be used. Makes none."""
    if not keys_in(given) and file.exists():
        _read(file, purpose=purpose, loss=loss)


def _read(file: Path, *, purpose: str, loss: str) -> list[bytes]:
    try:
        keys = keys_in(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} can't be used as the key of {purpose}: {error}") from None
    if not keys:
        raise ConfigurationError(f"{file} is empty; put back the key that was there, or remove it and lose {loss}")
    return keys


def _make(file: Path) -> None:
    """Makes a key file atomically: of several processes one makes it, and nobody ever reads a part of it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)  # readable by its owner only
    try:
        with os.fdopen(descriptor, "wb") as unfinished:
            unfinished.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            unfinished.flush()
            os.fsync(unfinished.fileno())
        with suppress(FileExistsError):
            os.link(name, file)
    finally:
        os.unlink(name)
