"""The keys that sign tickets: those of the setting, else one in a file in the data folder."""

from collections.abc import Sequence

from config.key_files import check_keys, keys_of
from config.settings import Settings

FILE_NAME = "signing.key"


def signing_keys(settings: Settings) -> Sequence[bytes]:
    """The keys, the one that signs first. Raises ConfigurationError."""
    given = settings.signing_key.get_secret_value()
    return keys_of(given, settings.data / FILE_NAME, purpose="tickets", loss="the links to events that were told")


def check_signing_keys(settings: Settings) -> None:
    """Raises ConfigurationError for a key file that exists, is needed and can't be used; makes none."""
    if settings.auth == "keys":
        given = settings.signing_key.get_secret_value()
        check_keys(given, settings.data / FILE_NAME, purpose="tickets", loss="the links to events that were told")
