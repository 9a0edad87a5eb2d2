"""What became of one job, step by step, and the first bytes of what went in and came out: for people who look at it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from tidegate.database.connection import Database
from tidegate.database.schema import attempts, bodies, clients


@dataclass(frozen=True, kw_only=True)
class Release:
    """One row of `attempts`: the job was let go; `claimed_at` None: no worker took it. `outcome` None: it goes on."""

    fence: int
    released_at: datetime
    slot_at: datetime
    claimed_at: datetime | None
    worker: str | None
    call_started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None


@dataclass(frozen=True, kw_only=True)
class Head:
    """The first bytes of a body, and how many it has."""

    content: bytes
    content_type: str
    size: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing was cut off."""
        return len(self.content) == self.size


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """`releases`: the last ones, oldest first; `left_out`: how many came before them. `heads`: by kind of body."""

    client: str
    releases: tuple[Release, ...]
    left_out: int
    heads: Mapping[str, Head]


class TimelineStore:
    """Statements of a job's page. Whose job it is was asked before."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, job_id: str, client_id: str, *, releases: int, head_bytes: int) -> Timeline:
        """The job's last so many releases, and so many bytes of each of its bodies."""
        names = Release.__dataclass_fields__
        own = select(*(attempts.c[name] for name in names)).where(attempts.c.job_id == job_id)
        # Of no bytes SQLite makes NULL.
        first_bytes = func.substr(bodies.c.content, 1, head_bytes, type_=bodies.c.content.type)
        kept = select(bodies.c.kind, bodies.c.content_type, first_bytes, func.length(bodies.c.content))
        with self._database.reading() as connection:
            rows = connection.execute(own.order_by(attempts.c.fence.desc()).limit(releases)).all()
            heads = connection.execute(kept.where(bodies.c.job_id == job_id)).all()
            client = connection.execute(select(clients.c.name).where(clients.c.id == client_id)).scalar_one()
        found = tuple(Release(**row._mapping) for row in reversed(rows))  # noqa: SLF001 - SQLAlchemy's public name for it
        return Timeline(
            client=client,
            releases=found,
            left_out=found[0].fence - 1 if found else 0,
            heads={
                kind: Head(content=bytes(content or b""), content_type=content_type, size=size)
                for kind, content_type, content, size in heads
            },
        )
