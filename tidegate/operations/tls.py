"""TLS towards downstreams and receivers of webhooks: trusts the system's authorities, and those of a file beside."""

import ssl
from functools import lru_cache
from pathlib import Path

import httpcore2


@lru_cache(maxsize=8)
def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """The context of connections, made once: reading all authorities' certificates takes as long as many calls.

    `ca_file`: certificates in PEM that are trusted beside the system's. Raises OSError for what is no such file.
    """
    context = httpcore2.default_ssl_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
