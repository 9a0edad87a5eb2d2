"""Validates TIDEGATE_CA_FILE: a file with certificates of authorities, in PEM."""

import ssl
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator


def _check(value: object) -> object:
    if isinstance(value, str) and value:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
        except OSError as error:  # ssl.SSLError is one
            reason = "it has no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
            raise ValueError(f"{value} can't be used: {reason}") from None
    return value or None


CaFile = Annotated[Path | None, BeforeValidator(_check)]
"""The path of such a file; None, or an empty text: there is none."""
