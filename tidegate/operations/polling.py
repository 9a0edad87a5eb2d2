"""Polling: what an answer of a downstream says of where and when to ask again for work that it has accepted. Pure."""

from datetime import timedelta
from urllib.parse import urldefrag, urljoin

from tidegate.operations.http_url import HttpUrl, parse_url
from tidegate.operations.outcome import ErrorCode, Failed, Polls

ACCEPTED, SEE_OTHER = 202, 303
SHORTEST, LONGEST = timedelta(seconds=1), timedelta(hours=1)
"""Between two polls. Who means milliseconds, or an instant, and writes seconds makes nobody wait for a day."""
_LONGEST_UNTOLD = timedelta(seconds=30)
_URL_LENGTH = 8192
# So often one answer may send on to the next at once. More is a circle.
_AT_ONCE = 5


def next_poll(
    status: int, location: str | None, asked: HttpUrl, *, is_poll: bool, retry_after: timedelta | None
) -> Polls | Failed | None:
    """What a 202, or a 303 with a `Location`, means to an operation that polls; None: any other answer.

    `location`: as it stands there, read against the URL that was `asked`. Only the same scheme, host and port are ever
    called. Where a poll is answered without one, the same URL is asked again.
    """
    if status not in {ACCEPTED, SEE_OTHER} or (status == SEE_OTHER and not location):
        return None
    if status == ACCEPTED and retry_after is not None:
        retry_after = max(retry_after, SHORTEST)
    if not location:
        return Polls(url=asked.text, after=retry_after) if is_poll else _failed(status, "no Location to ask for it at")
    try:
        url = parse_url(urldefrag(urljoin(asked.text, location)).url)
    except ValueError as error:
        return _failed(status, f"a Location that can't be asked: {error}")
    if len(url.text) > _URL_LENGTH:
        return _failed(status, f"a Location of more than {_URL_LENGTH} characters")
    if not is_same_origin(url, asked):
        return _failed(status, f"a Location at {url.scheme}://{url.host_field}, and only its own origin is asked")
    return Polls(url=url.text, after=timedelta(0) if status == SEE_OTHER and retry_after is None else retry_after)


def is_same_origin(one: HttpUrl, other: HttpUrl) -> bool:
    """Whether both URLs have the same scheme, host and port."""
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def wait_before_poll(after: timedelta | None, *, polls: int) -> timedelta:
    """How long after an answer the next poll is due. `after`: as the downstream said; `polls`: so many came before.

    Without a word of the downstream 1 s, 2 s, 4 s … 30 s. At once, which is what a 303 means, a few times only.
    """
    if after == timedelta(0) and polls < _AT_ONCE:
        return after
    if not after:
        doublings: int = 2 ** min(polls, 10)
        return min(SHORTEST * doublings, _LONGEST_UNTOLD)
    return min(max(after, SHORTEST), LONGEST)


def _failed(status: int, words: str) -> Failed:
    return Failed(
        code=ErrorCode.DOWNSTREAM_ERROR,
        message=f"the downstream answered {status} with {words}",
        detail={"downstream_status": status},
    )
