"""The base of absolute links: the public URL of the settings, or the URL that the request came in under."""

from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from werkzeug.wrappers import Request

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# RFC 3986: what stands for itself in a path.
_SAFE_IN_PATH = "/!$&'()*+,;=:@~"


def base_url(environ: "WSGIEnvironment", public_url: str | None) -> str | None:
    """The base URL, without a slash at its end; None for a request that names no host."""
    return public_url or _base_under(
        environ["wsgi.url_scheme"], environ.get("HTTP_HOST", ""), environ.get("SCRIPT_NAME", "")
    )


@lru_cache(1024)
def _base_under(scheme: str, host: str, root: str) -> str | None:
    """The base URL of a request, its host checked by Werkzeug, which is slow and therefore cached.

    Werkzeug's own URL is for people to read: of xn--bcher-kva it makes bücher, which is no URI (RFC 3986), and of some
    hosts an error.
    """
    request = Request({"wsgi.url_scheme": scheme, "HTTP_HOST": host, "SCRIPT_NAME": root, "REQUEST_METHOD": "GET"})
    if not (host and request.host):
        return None
    return f"{scheme}://{request.host}{quote(root.encode('latin-1'), safe=_SAFE_IN_PATH)}".rstrip("/")
