"""Validates TIDEGATE_CORS_ORIGINS: web origins as browsers send them (RFC 6454), which are scheme, host and port."""

import re
from collections.abc import Sequence

from pydantic import AnyUrl, ValidationError

ANY = "*"
_HOST = re.compile(r"[a-z0-9_.-]+|\[[0-9a-f:.]+\]")


def check_origins(origins: Sequence[str], *, has_keys: bool) -> None:
    """Raises ValueError unless each is an exact origin, or the only one is * and keys are on."""
    for origin in origins:
        if origin != ANY and origin != (exact := _as_browsers_send_it(origin)):
            wanted = f"write {exact}" if exact else "write https://app.example.com, or * alone for all"
            raise ValueError(f"TIDEGATE_CORS_ORIGINS: {origin[:200]!r} is not an origin as browsers send it; {wanted}")
    if ANY in origins:
        if len(origins) > 1:
            raise ValueError("TIDEGATE_CORS_ORIGINS: * is all origins; leave out the others")
        if not has_keys:
            raise ValueError(
                "TIDEGATE_CORS_ORIGINS: * lets every page of the web in with TIDEGATE_AUTH=off; name them, or need keys"
            )


def _as_browsers_send_it(origin: str) -> str:
    """The origin of a URL as browsers send it; empty for what is no URL."""
    try:
        url = AnyUrl(origin)
    except ValidationError:
        return ""
    if not _HOST.fullmatch(url.host or ""):
        return ""
    default = {"http": 80, "https": 443}.get(url.scheme)
    port = "" if url.port in {None, default} else f":{url.port}"
    return f"{url.scheme}://{url.host}{port}"
