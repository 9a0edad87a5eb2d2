"""The keys that webhook secrets are derived from: those of the setting, else one in a file in the data folder."""

from config.key_files import check_keys, keys_of
from config.settings import Settings
from tidegate.webhooks.signing import Keyring

FILE_NAME = "webhook.key"


def load_keyring(settings: Settings) -> Keyring:
    """Loads the keyring. Raises ConfigurationError."""
    given = settings.webhook_key.get_secret_value()
    return Keyring(keys_of(given, settings.data / FILE_NAME, purpose="webhooks", loss="the secrets"))


def check_keyring(settings: Settings) -> None:
    """Raises ConfigurationError for a key file that exists and can't be used; makes none."""
    given = settings.webhook_key.get_secret_value()
    check_keys(given, settings.data / FILE_NAME, purpose="webhooks", loss="the secrets")
