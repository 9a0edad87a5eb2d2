"""What is sent to the gateway, how its answers are read and when another try is worth it; without any I/O.

A conversation with the gateway is a generator: it yields what is to be done next (a `Step`), gets what came of it, and
returns what the caller wants. `Transport` and `AsyncTransport` do the steps. Every request of this client may be
repeated.
"""

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx2

from tidegate_client import clock
from tidegate_client.errors import TYPE_PREFIX, ConnectionFailed, OutcomeUnknown, Refused, UnexpectedAnswer

PROBLEM, EVENT_STREAM = "application/problem+json", "text/event-stream"
LONGEST_SILENCE = 45.0
"""Seconds without a word after which an event stream is taken for lost: the gateway sends one every 20."""
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
_RANDOM = random.SystemRandom()
Told = TypeVar("Told")
Brought = TypeVar("Brought")


@dataclass(kw_only=True)
class Gateway:
    """The gateway at `url`. One answer may take `timeout` seconds; one request is tried for `patience` seconds."""

    url: str
    timeout: float
    patience: float

    def __post_init__(self) -> None:
        self.url = _checked(self.url)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Step: send this; what comes of it is the response, or an httpx2.RequestError. A stream of events is left open."""

    method: str
    url: str
    content: bytes | None
    headers: Mapping[str, str]
    params: Mapping[str, str] | None
    timeout: float
    is_stream: bool


@dataclass(frozen=True)
class Pause:
    """Step: let so many seconds pass."""

    seconds: float


@dataclass(frozen=True)
class Listen:
    """Step: make of an open response the stream of its events."""

    response: httpx2.Response


@dataclass(frozen=True)
class Next:
    """Step: wait for the next event of a stream; None when it has ended, or an httpx2.RequestError."""

    stream: Any


@dataclass(frozen=True)
class Close:
    """Step: let go of a stream."""

    stream: Any


Step = Request | Pause | Listen | Next | Close
Steps = Generator[Step, Any, Brought]
"""A conversation that brings this in the end."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to the gateway, whatever number of tries it takes. `path` stands behind the gateway's address."""

    method: str
    path: str
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] | None = None
    is_stream: bool = False


def answer_to(gateway: Gateway, call: Call, *, hold: int = 0, until: float | None = None) -> Steps[httpx2.Response]:
    """Brings the gateway's answer: one below 300, 304, or a job's own 410, 502 or 504.

    Connection errors, 429 and passing 5xx are tried again with growing delays, and not before `Retry-After`; up to
    the patience, and not beyond `until` (monotonic). The gateway is asked to hold its answer back for `hold`
    seconds, until something changes. Raises Refused, UnexpectedAnswer or ConnectionFailed.
    """
    give_up_at = clock.monotonic() + gateway.patience + hold
    if until is not None:
        give_up_at = min(give_up_at, until)
    tries = 0
    while True:
        tries += 1
        left = give_up_at - clock.monotonic()
        wait = min(hold, int(left))
        prefer = {"Prefer": f"wait={wait}"} if wait > 0 else {}
        # The last try of a short wait still gets a moment for its answer.
        timeout = max(0, wait) + min(gateway.timeout, max(left - wait, 1.0))
        try:
            response: httpx2.Response = yield Request(
                method=call.method,
                url=gateway.url + call.path,
                content=call.content,
                headers={**call.headers, **prefer},
                params=call.params,
                timeout=max(timeout, LONGEST_SILENCE) if call.is_stream else timeout,
                is_stream=call.is_stream,
            )
        except httpx2.RequestError as error:
            reason = str(error) or type(error).__name__
            failure: Exception = ConnectionFailed(gateway.url, reason + _by_way_of(gateway.url))
            pause = delay_before(tries + 1)
        else:
            if _is_answer(response):
                return response
            failure = failure_of(response)
            if not failure.is_passing:
                raise failure
            pause = max(delay_before(tries + 1), retry_after(response) or 0.0)
        if clock.monotonic() + pause > give_up_at:
            raise failure
        yield Pause(pause)


def told_in_answer(gateway: Gateway, call: Call, read: Callable[[Any], Told]) -> Steps[Told]:
    """Brings what `read` makes of the answer's JSON."""
    return told_by((yield from answer_to(gateway, call)), read)


def _is_answer(response: httpx2.Response) -> bool:
    """Whether the gateway says what was asked for. A job's own 502 and 504 name its state; a proxy's do not."""
    return response.status_code < 300 or response.status_code == 304 or "Tidegate-Job-State" in response.headers


def delay_before(tries: int) -> float:
    """Seconds before this try: 0.1, 0.2, 0.4 … 5, less up to half of it so that clients do not come back together."""
    return float(min(FIRST_DELAY * 2 ** (tries - 2), LONGEST_DELAY) * _RANDOM.uniform(0.5, 1.0))


def retry_after(response: httpx2.Response) -> float | None:
    """Seconds that the answer asks to wait; None when it does not say, or what can't be read."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - clock.now()).total_seconds())
    except (ValueError, TypeError):  # no date; one without a zone
        return None


def failure_of(response: httpx2.Response) -> Refused | UnexpectedAnswer:
    """What an answer of 300 and above means: the gateway's own problem document, or somebody else's words."""
    problem = problem_of(response)
    if problem is not None:
        kind = OutcomeUnknown if problem["type"] == TYPE_PREFIX + OutcomeUnknown.KIND else Refused
        return kind(problem, retry_after(response))
    target = response.headers.get("Location")
    return unexpected(response, f"a redirect to {target}" if target else None)


def problem_of(response: httpx2.Response) -> dict[str, Any] | None:
    """The gateway's problem document; None when it is none, or somebody else's."""
    if response.headers.get("Content-Type", "").partition(";")[0].strip() != PROBLEM:
        return None
    try:
        document = response.json()
    except ValueError:
        return None
    if isinstance(document, dict) and str(document.get("type", "")).startswith(TYPE_PREFIX):
        return {"status": response.status_code, **document}
    return None


def told_by(response: httpx2.Response, read: Callable[[Any], Told]) -> Told:
    """What `read` makes of the answer's JSON; raises UnexpectedAnswer when that is not as the gateway writes it."""
    try:
        return read(response.json())
    except (ValueError, LookupError, TypeError, AttributeError):  # UnicodeDecodeError too
        raise unexpected(response) from None


def unexpected(response: httpx2.Response, words: str | None = None) -> UnexpectedAnswer:
    """The error for an answer that is not the gateway's: in `words`, else in its own first ones."""
    beginning = words or " ".join(response.text[:200].split()) or "an empty body"
    return UnexpectedAnswer(str(response.url), response.status_code, beginning + _by_way_of(str(response.url)))


def _by_way_of(url: str) -> str:
    """Names the proxy of the environment that stood between, as httpx takes it from there; empty without one."""
    address, proxies = httpx2.URL(url), getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(address.host):
        return ""
    place = proxy.rpartition("@")[2] if "@" in proxy else proxy.rpartition("//")[2]
    return f" (by way of the proxy {place} of the environment; NO_PROXY={address.host} leaves it out)"


def _checked(url: str) -> str:
    """The base of all requests; raises ValueError for what can't be one."""
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{url!r} is not the address of a gateway: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.host or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not the address of a gateway; write one like https://tidegate.example")
    return url.rstrip("/")
