"""Fetches an access token by OAuth 2 client credentials (RFC 6749, 4.4), and calls a downstream with it (RFC 6750)."""

import base64
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote_plus, urlencode

import httpcore2
import orjson

from tidegate import clock
from tidegate.operations.content_coding import UnreadableAnswerError, unpack
from tidegate.operations.deadline_network import ends_at
from tidegate.operations.http_url import HttpUrl, parse_url
from tidegate.operations.oauth import LONGEST_SECONDS, AccessToken, NoTokenError, OAuth
from tidegate.operations.operation import Attempt
from tidegate.operations.outcome import ErrorCode, Failed, HandedBack, Split, TryAgain
from tidegate.operations.own_shortage import own_shortage
from tidegate.operations.quota_fields import read_quota_fields

log = logging.getLogger(__name__)

RENEWED = "token renewed"
"""The outcome of a call that the downstream refused with 401, for which another token is fetched."""
ANSWER_BYTES = 64 * 1024
_WITHOUT_EXPIRY_SECONDS = 3600.0
_LONGEST_LIFE_SECONDS = 86_400.0 * 3650
_TOLD_LENGTH = 200
_HIDDEN = "***"
_LEAST_PART = 8
# What may stand in a header behind "Bearer ", wider than RFC 6750 has it.
_SENDABLE = re.compile(r"[\x21-\x7e]{1,16384}")
_JSON_TYPE = "application/json"
Made = TypeVar("Made")


def call_with_token(
    oauth: OAuth | None,
    attempt: Attempt,
    connections: Callable[[], httpcore2.ConnectionPool],
    call: Callable[[Mapping[str, str]], Made],
) -> Made | Failed | TryAgain | HandedBack:
    """Calls a downstream with a token in its headers; what it says of the token is not repeated in the outcome.

    `oauth` None: without one. Refused with 401, a token that is not young is renewed, once for an attempt, which then
    is not counted.
    """
    if oauth is None:
        return call({})
    try:
        token = attempt.tokens.token(oauth, partial(fetch_token, oauth, connections()))
    except NoTokenError as error:
        if error.another_may_do:
            return TryAgain(code=ErrorCode.DOWNSTREAM_ERROR, message=str(error), retry_after=error.retry_after)
        return Failed(code=ErrorCode.OPERATION_ERROR, message=str(error))
    outcome = call({"authorization": f"Bearer {token.text}"})
    judged = outcome.alone if isinstance(outcome, Split) else outcome
    is_refused = isinstance(judged, Failed | TryAgain) and judged.detail.get("downstream_status") == 401
    if is_refused and not token.is_young and attempt.tokens.renew(oauth, token):
        return HandedBack(reason=RENEWED, was_called=True)
    hidden: Made = _hiding(token.text, outcome)
    return hidden


def _hiding(token: str, outcome: Any) -> Any:
    """The same outcome, or outcomes of a batch, in whose details the token is not to be seen."""
    match outcome:
        case Failed() | TryAgain():
            said = str(outcome.detail.get("downstream_body", ""))
            hidden = {"downstream_body": _without(said, token)} if said else {}
            return replace(outcome, detail={**outcome.detail, **hidden})
        case Split():
            return replace(outcome, alone=_hiding(token, outcome.alone))
        case tuple():
            return tuple(_hiding(token, each) for each in outcome)
    return outcome


def fetch_token(oauth: OAuth, connections: httpcore2.ConnectionPool, seconds: float) -> AccessToken:
    """Fetches a token with one request, which may take so many seconds. Raises NoTokenError.

    What this process itself is short of is raised as it is.
    """
    try:
        url = parse_url(oauth.token_url)
    except ValueError as error:
        raise NoTokenError(f"the token_url is not valid: {error}", another_may_do=False) from None
    asked = clock.monotonic()
    try:
        status, headers, content = _answer(oauth, url, connections, asked + min(seconds, LONGEST_SECONDS))
    except httpcore2.TimeoutException:
        raise NoTokenError("the token server did not answer in time", is_late=True) from None
    except (httpcore2.LocalProtocolError, httpcore2.UnsupportedProtocol, ValueError, TypeError):
        # The exception's message shows what can't be sent, and with it a secret.
        raise NoTokenError("the token request can't be sent: it is not valid", another_may_do=False) from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        if own_shortage(error):
            raise
        what = f"{type(error).__name__}: {_told(oauth, str(error))}"
        raise NoTokenError(f"the token server can't be reached: {what}") from None
    if not 200 <= status < 300:
        raise _refused(oauth, status, headers, content)
    token = _read(status, content, asked)
    log.info("a token was fetched from %s, good for %.0f s", url.host_field, token.seconds)
    return token


def _answer(
    oauth: OAuth, url: HttpUrl, connections: httpcore2.ConnectionPool, until: float
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of the token server's answer. Its body is bounded."""
    form = {"grant_type": "client_credentials", **({"scope": oauth.scope} if oauth.scope else {})}
    headers = [
        (b"host", url.host_field.encode()),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"accept", _JSON_TYPE.encode()),
        (b"accept-encoding", b"identity"),
        (b"user-agent", b"tidegate"),
    ]
    if oauth.auth == "basic":
        headers.append((b"authorization", b"Basic " + _basic(oauth).encode()))
    else:
        form |= {"client_id": oauth.client_id, "client_secret": oauth.client_secret}
    target = httpcore2.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
    body = urlencode(form).encode()
    with ends_at(until), connections.stream("POST", target, headers=headers, content=body) as response:
        content = bytearray()
        for chunk in response.iter_stream():
            content += chunk
            if len(content) > ANSWER_BYTES:
                raise NoTokenError(f"the token server's answer is larger than {ANSWER_BYTES} bytes")
    codings = [value.decode("latin-1") for name, value in response.headers if name.lower() == b"content-encoding"]
    try:
        return response.status, response.headers, unpack(bytes(content), ",".join(codings), largest=ANSWER_BYTES)
    except UnreadableAnswerError as error:
        raise NoTokenError(f"the token server's answer {error}") from None


def _basic(oauth: OAuth) -> str:
    """Id and secret as HTTP Basic has them, form-encoded first (RFC 6749, 2.3.1)."""
    return base64.b64encode(f"{quote_plus(oauth.client_id)}:{quote_plus(oauth.client_secret)}".encode()).decode()


def _refused(oauth: OAuth, status: int, headers: list[tuple[bytes, bytes]], content: bytes) -> NoTokenError:
    """What an answer that is no success says (RFC 6749, 5.2), without a secret."""
    said = _members(content)
    words = [str(said[name]) for name in ("error", "error_description") if isinstance(said.get(name), str)]
    told = f": {_told(oauth, ': '.join(words))}" if words else ""
    is_final = 400 <= status < 500 and status not in {408, 429}
    return NoTokenError(
        f"the token server answered {status}{told}",
        another_may_do=not is_final,
        retry_after=read_quota_fields(headers, clock.now()).retry_after,
    )


def _read(status: int, content: bytes, asked: float) -> AccessToken:
    """The token of a good answer (RFC 6749, 5.1)."""
    members = _members(content)
    text, kind = members.get("access_token"), members.get("token_type")
    if not isinstance(text, str) or not text:
        raise NoTokenError(f"the token server answered {status} without an access_token in JSON")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        shown = repr(_without(kind[:_TOLD_LENGTH], text)) if isinstance(kind, str) else "missing"
        raise NoTokenError(f"the token_type of the token server is {shown}, not Bearer", another_may_do=False)
    if not _SENDABLE.fullmatch(text):
        raise NoTokenError("the token server's access_token can't stand in a header", another_may_do=False)
    return AccessToken(text=text, fetched=asked, seconds=_life(members.get("expires_in")))


def _life(expires_in: object) -> float:
    """How many seconds a token is good; some servers write the number as a text."""
    if isinstance(expires_in, str) and re.fullmatch(r"[0-9]{1,12}", expires_in, re.ASCII):
        expires_in = int(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float):
        return _WITHOUT_EXPIRY_SECONDS
    return max(0.0, min(float(expires_in), _LONGEST_LIFE_SECONDS))


def _members(content: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _told(oauth: OAuth, text: str) -> str:
    """A server's words for the job's error: on one line, not long, and without the secret if it repeats that."""
    for secret in (oauth.client_secret, quote_plus(oauth.client_secret), _basic(oauth)):
        text = _without(text, secret)
    return "".join(each if each.isprintable() else " " for each in text)[:_TOLD_LENGTH]


def _without(text: str, secret: str) -> str:
    """Hides a secret in a text, also where the text ends within it."""
    if not secret:
        return text
    text = text.replace(secret, _HIDDEN)
    for length in range(len(secret) - 1, _LEAST_PART - 1, -1):
        if text.endswith(secret[:length]):
            return text[:-length] + _HIDDEN
    return text
