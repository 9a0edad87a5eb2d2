"""TLS towards downstreams and receivers of webhooks: trusts the system's authorities, and those of a file beside."""

import ssl
from functools import lru_cache
from pathlib import Path

import httpcore2


@lru_cache(maxsize=64)
def tls_context(*ca_files: Path, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """The context of connections, made once: reading all authorities' certificates takes as long as many calls.

    `ca_files`: certificates in PEM that are trusted beside the system's. `certificate`: our own in PEM, with those that
    signed it, where the other side asks who calls; `key`: its key, where that lies in another file. Raises OSError for
    what is no such file.
    """
    context = httpcore2.default_ssl_context()
    for ca_file in ca_files:
        context.load_verify_locations(ca_file)
    if certificate is not None:
        context.load_cert_chain(certificate, key, password="")  # else an encrypted key would be asked for on a terminal
    return context
