"""OAuth 2 client credentials (RFC 6749, 4.4) as values: what a token is fetched with, a token, who hands them out."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal, Protocol, TypeAlias

from tidegate import clock
from tidegate.errors import TidegateError

LONGEST_SECONDS = 10.0
"""The longest that one request for a token may take."""
_MARGIN_SECONDS = 30.0
_YOUNG_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class OAuth:
    """Client credentials. `token_url`, `client_id` and `client_secret` are templates: workers `expand` them.

    `auth`: where the secret stands in the request: in the header Authorization, or in its body.
    """

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""
    auth: Literal["basic", "body"] = "basic"

    def expanded(self, expand: Callable[[str], str]) -> "OAuth":
        """The credentials with the environment's values in them."""
        return replace(
            self,
            token_url=expand(self.token_url),
            client_id=expand(self.client_id),
            client_secret=expand(self.client_secret),
        )

    @property
    def name(self) -> bytes:
        """What tokens of these credentials are kept by: a hash, which tells neither the secret nor the URL."""
        return hashlib.sha256("\0".join((self.token_url, self.client_id, self.scope)).encode()).digest()


@dataclass(frozen=True, kw_only=True)
class AccessToken:
    """A token: fetched at an instant of the monotonic clock, good for so many seconds from then on.

    `number`: by which the cluster knows it; None: only this process does.
    """

    text: str = field(repr=False)
    fetched: float
    seconds: float
    number: int | None = None

    @property
    def is_good(self) -> bool:
        """Whether a call may still begin with it: it ends neither now nor within 30 s, or a tenth of its life."""
        return clock.monotonic() < self.fetched + self.seconds - min(_MARGIN_SECONDS, self.seconds / 10)

    @property
    def is_young(self) -> bool:
        """Whether another one would hardly be better: it is not 30 s old, or half of its life."""
        return clock.monotonic() < self.fetched + min(_YOUNG_SECONDS, self.seconds / 2)


class NoTokenError(TidegateError):
    """A token server gives no token. `another_may_do`: another request may. `is_late`: the time of it was over."""

    def __init__(
        self, message: str, *, another_may_do: bool = True, is_late: bool = False, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message)
        self.another_may_do = another_may_do
        self.is_late = is_late
        self.retry_after = retry_after


Fetch: TypeAlias = Callable[[float], AccessToken]
"""Fetches a token within so many seconds. Raises NoTokenError."""


class Tokens(Protocol):
    """Hands out the tokens of an attempt."""

    def token(self, oauth: OAuth, fetch: Fetch) -> AccessToken:
        """A good token, fetched by whoever is first. Raises NoTokenError."""
        ...

    def renew(self, oauth: OAuth, refused: AccessToken) -> bool:
        """Throws a token away that the downstream refused. False: another one was tried in its place already."""
        ...


@dataclass(frozen=True)
class FetchedTokens:
    """Tokens that are fetched for each call and kept nowhere: of an attempt outside a worker."""

    seconds_left: Callable[[], float]

    def token(self, oauth: OAuth, fetch: Fetch) -> AccessToken:  # noqa: ARG002 - all are fetched alike
        """A new token."""
        return fetch(self.seconds_left())

    def renew(self, oauth: OAuth, refused: AccessToken) -> bool:  # noqa: ARG002 - there is none to throw away
        """False: each is a new one."""
        return False
