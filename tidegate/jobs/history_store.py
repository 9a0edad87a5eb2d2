"""Queries of one job's history for the live page: its attempts, and the first bytes of its input and result."""

from sqlalchemy import func, or_, select

from tidegate.database.connection import Database
from tidegate.database.schema import attempts, bodies, clients
from tidegate.database.statement import required
from tidegate.jobs.history import Head, Release, Timeline


class HistoryStore:
    """Queries of a job's page. The caller has checked that the client may see the job."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def client_id(self, name: str) -> str | None:
        """The id of the client of this name, or of this id; None: there is none."""
        named = select(clients.c.id).where(or_(clients.c.name == name, clients.c.id == name))
        found = self._database.fetch_one(named.order_by(clients.c.name == name))
        return str(found.id) if found else None

    def read(self, job_id: str, client_id: str, *, releases: int, head_bytes: int) -> Timeline:
        """The job's last releases, at most so many, and so many bytes of each of its bodies."""
        names = Release.__dataclass_fields__
        own = select(*(attempts.c[name] for name in names)).where(attempts.c.job_id == job_id)
        # SQLite's substr of an empty blob is NULL.
        first_bytes = func.substr(bodies.c.content, 1, head_bytes, type_=bodies.c.content.type)
        kept = select(bodies.c.kind, bodies.c.content_type, first_bytes, func.length(bodies.c.content))
        rows = self._database.fetch_all(own.order_by(attempts.c.fence.desc()).limit(releases))
        heads = self._database.fetch_all(kept.where(bodies.c.job_id == job_id))
        client = required(self._database.fetch_one(select(clients.c.name).where(clients.c.id == client_id)))
        found = tuple(Release(**row._mapping) for row in reversed(rows))  # noqa: SLF001 - SQLAlchemy's public name for it
        return Timeline(
            client=client.name,
            releases=found,
            left_out=found[0].fence - 1 if found else 0,
            heads={
                kind: Head(content=bytes(content or b""), content_type=content_type, size=size)
                for kind, content_type, content, size in heads
            },
        )
