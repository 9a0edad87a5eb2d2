"""The history of one job for the live page: its attempts, and the first bytes of its input and result."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Release:
    """One release of the job: a row of `attempts`.

    `claimed_at` None: no worker took it. `outcome` None: it goes on. `batch_id`: of the call that it was made in with
    others.
    """

    fence: int
    released_at: datetime
    slot_at: datetime
    claimed_at: datetime | None
    worker: str | None
    call_started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    batch_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Head:
    """The first bytes of a body, and the size of the whole."""

    content: bytes
    content_type: str
    size: int

    @property
    def is_whole(self) -> bool:
        """Whether these bytes are the whole body."""
        return len(self.content) == self.size


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The job's history. `releases`: the last ones, oldest first; `left_out`: how many came before them.

    `client`: its name. `heads`: the first bytes of the bodies, by kind.
    """

    client: str
    releases: tuple[Release, ...]
    left_out: int
    heads: Mapping[str, Head]
