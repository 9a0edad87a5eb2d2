"""The messages on Redis pub/sub that wake the scheduler and notify waiting requests: their channels and format.

Lost ones do no harm: both sides poll once a second as well.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

CHANNEL = "tidegate:wake"
"""Its messages are names of lanes with blanks between, each with a slash and the key of a partition where it is shared,
and a colon for a place that came free; an empty one: look at all. `parse_wakeup` reads them."""
DELIVERIES = "tidegate:deliveries"
"""Rung by those who send webhooks, when a place is free again."""
CHANGES = "tidegate:changed"
"""Its messages are ids of jobs with blanks between, with a colon behind those that only began an attempt; an empty one:
any job may have changed. `named_in` reads them."""
BEGAN = ":"
"""Behind the id of a job."""
FREED = ":"
"""In place of a lane."""
# kombu's scheme of a Unix socket; redis-py's is unix://.
_SOCKET = "redis+socket://"
_TIMEOUT_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Wakeup:
    """What the scheduler was woken for. `lanes`: where jobs are due, None: any may be; `freed`: a place came free.

    `partitions`: of which partitions these jobs are, as lane and key, where the lanes are shared.
    """

    lanes: AbstractSet[str] | None
    freed: bool = False
    partitions: AbstractSet[tuple[str, str]] = frozenset()


def parse_wakeup(messages: Sequence[bytes]) -> Wakeup:
    """Reads the messages to the scheduler."""
    words = {word for message in messages for word in message.decode("utf-8", "replace").split()}
    pairs = [(lane, key) for lane, slash, key in (word.partition("/") for word in words - {FREED}) if slash]
    if not all(messages):
        return Wakeup(lanes=None, partitions=frozenset(pairs))
    lanes = {word.partition("/")[0] for word in words - {FREED}}
    return Wakeup(lanes=lanes, freed=FREED in words, partitions=frozenset(pairs))


def named_in(message: bytes) -> tuple[AbstractSet[str], AbstractSet[str]]:
    """Reads a message about changed jobs: the ids of those that changed, and of those that only began an attempt.

    Neither: any job may have changed.
    """
    words = message.decode("ascii", "replace").split()
    begun = {word.removesuffix(BEGAN) for word in words if word.endswith(BEGAN)}
    return {word for word in words if not word.endswith(BEGAN)}, begun


def is_reachable(broker_url: str) -> bool | None:
    """Whether a Redis broker answers a PING within half a second; None for other brokers."""
    if not has_pubsub(broker_url):
        return None
    try:
        with connect(broker_url) as connection:
            return bool(connection.ping())
    except (redis.RedisError, OSError):
        return False


def has_pubsub(url: str) -> bool:
    """Whether this URL is of a Redis server, which has pub/sub."""
    return url.startswith(("redis://", "rediss://", _SOCKET))


def connect(url: str) -> redis.Redis:
    """A Redis client that gives up after half a second and does not retry."""
    # redis-py's own default tries ten times with backoff and takes seconds to say that nobody is there.
    return redis.Redis.from_url(
        f"unix://{url.removeprefix(_SOCKET)}" if url.startswith(_SOCKET) else url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
