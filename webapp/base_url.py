"""The absolute URL that links begin with: the public one that is set, or the one that a request came in under."""

from functools import lru_cache
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def base_url(environ: "WSGIEnvironment", public_url: str | None) -> str | None:
    """Without a slash at its end; None for a request that names no host."""
    return public_url or _base_under(
        environ["wsgi.url_scheme"], environ.get("HTTP_HOST", ""), environ.get("SCRIPT_NAME", "")
    )


@lru_cache(1024)
def _base_under(scheme: str, host: str, root: str) -> str | None:
    """As Werkzeug puts it together, which takes a tenth of a millisecond."""
    request = Request({"wsgi.url_scheme": scheme, "HTTP_HOST": host, "SCRIPT_NAME": root, "REQUEST_METHOD": "GET"})
    return request.root_url.rstrip("/") if host and request.host else None
