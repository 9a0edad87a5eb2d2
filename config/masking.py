"""Masks secrets in URLs that are shown or logged: passwords before the host, and query parameters."""

import re
from urllib.parse import unquote_plus

HIDDEN = "***"
_PASSWORD = re.compile(r"(://[^\s:@/?#\"']*:)[^\s@/?#\"']+(?=@)")
# SQLAlchemy's grammar of a password: up to the last @ before the query, whatever else is in it.
_ODD_PASSWORD = re.compile(r"(://[^\s:@/?#]*:)[^?#]+(?=@)")
_PARAMETER = re.compile(r"([?&;])([^\s=&;?#]+)=([^\s&#]+)")
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)|pwd|secret|token|credential|signature|ticket|api_?key|access_?key|^(auth|sig|pass)$",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Masks the secrets of all URLs in a text."""
    return _without_parameters(_PASSWORD.sub(rf"\g<1>{HIDDEN}", text)) if "://" in text else text


def masked_url(url: str) -> str:
    """Masks the secrets of one URL."""
    return _without_parameters(_ODD_PASSWORD.sub(rf"\g<1>{HIDDEN}", url)) if "://" in url else url


def _without_parameters(text: str) -> str:
    return _PARAMETER.sub(_shown, text) if "?" in text else text


def _shown(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    return f"{mark}{name}={HIDDEN if _SECRET_NAME.search(unquote_plus(name)) else value}"
