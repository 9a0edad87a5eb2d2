"""`tidegate settings`: shows every setting with its value and meaning. Secrets are hidden."""

import sys

from config.masking import masked_url
from config.setting_text import as_text
from config.settings import PREFIX, Settings, settings
from tidegate.errors import ConfigurationError


def main() -> int:
    """Prints the settings; returns 2, and prints the reason, when one is bad."""
    try:
        current = settings()
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is its output
        return 2
    for name, field in Settings.model_fields.items():
        value = masked_url(as_text(getattr(current, name)))  # a secret as asterisks
        print(f"{PREFIX}{name.upper():<18} {value:<32} {field.description}")  # noqa: T201 - this is its output
    return 0
