"""The keys that access tokens are sealed with in the database: those of the setting, or none."""

from config.key_files import keys_in
from config.settings import Settings
from tidegate.errors import ConfigurationError
from tidegate.execution.token_keeper import Sealing


def load_sealer(settings: Settings) -> Sealing | None:
    """What seals by these keys; None: there are none. Raises ConfigurationError."""
    keys = keys_in(settings.sealing_key.get_secret_value())
    if not keys:
        return None
    try:
        from tidegate.execution.sealing import Sealer  # noqa: PLC0415 - there is no cryptography for every machine
    except ImportError:
        raise ConfigurationError(
            "TIDEGATE_SEALING_KEY: the package cryptography, which seals, is missing; install it, or leave this out"
        ) from None
    return Sealer(keys)


def check_sealing_keys(settings: Settings) -> None:
    """Raises ConfigurationError where the keys can't be used."""
    load_sealer(settings)
