"""Limits of one client's share of the gateway: those of the settings, else defaults, which are laxer without keys."""

from dataclasses import dataclass

from config.settings import Settings
from tidegate.rate import Rate

# Bursts as large as the period: a bulk submit of 1,000 goes through, an hour of 1,000 a second does not.
_SUBMITS = Rate.parse("12000/m")
_READS = Rate.parse("30000/m")
_WAITING_BYTES = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class Shares:
    """The limits of one client in one web process; `waiting_bytes` in the whole gateway. None: no limit."""

    submits: Rate | None
    reads: Rate | None
    held: int
    waiting_bytes: int | None


def shares(settings: Settings) -> Shares:
    """The limits by the settings. Without keys everyone is one client, which only explicit settings limit."""
    has_keys = settings.auth == "keys"
    half = max(1, settings.held_requests // 2) if has_keys else settings.held_requests
    return Shares(
        submits=_rate(settings.submit_limit, _SUBMITS if has_keys else None),
        reads=_rate(settings.poll_limit, _READS if has_keys else None),
        held=settings.held_per_client or half,
        waiting_bytes=settings.max_waiting_bytes or (_WAITING_BYTES if has_keys else None),
    )


def _rate(given: object, otherwise: Rate | None) -> Rate | None:
    if given == "off":
        return None
    return given if isinstance(given, Rate) else otherwise
