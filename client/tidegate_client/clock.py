"""The one place that asks the time."""

import asyncio
import time
from datetime import UTC, datetime


def monotonic() -> float:
    """Seconds that only go forward."""
    return time.monotonic()  # noqa: TID251 - this file is the one place of this package


def now() -> datetime:
    """The instant, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this file is the one place of this package


def sleep(seconds: float) -> None:
    """Waits; not at all for 0 and less."""
    if seconds > 0:
        time.sleep(seconds)  # noqa: TID251 - this file is the one place of this package


async def sleep_async(seconds: float) -> None:
    """Likewise, while other tasks go on."""
    if seconds > 0:
        await asyncio.sleep(seconds)
