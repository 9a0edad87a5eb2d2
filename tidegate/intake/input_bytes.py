"""Query of the total size of open jobs' inputs, by client."""

from collections.abc import Mapping

from sqlalchemy import func, select

from tidegate.database.connection import Database
from tidegate.database.schema import bodies, jobs

MOST_LOOKED_AT = 20_000
"""Of more jobs a part is looked at, which takes a tenth of a second, and the rest is taken to be like it."""


class InputByteStore:
    """The query of open jobs' input sizes, over the index of open jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_client(self, backlog: int) -> Mapping[str, int]:
        """Bytes of open jobs' inputs by client; `backlog`: how many jobs wait, as far as known, to extrapolate."""
        some = (
            select(jobs.c.id, jobs.c.client_id)
            .where(jobs.c.finished_at.is_(None))
            .order_by(jobs.c.deadline)
            .limit(MOST_LOOKED_AT)
            .subquery()
        )
        sums = (
            select(some.c.client_id, func.sum(func.length(bodies.c.content)).label("bytes"), func.count().label("jobs"))
            .join(bodies, (bodies.c.job_id == some.c.id) & (bodies.c.kind == "input"))
            .group_by(some.c.client_id)
        )
        rows = self._database.fetch_all(sums)
        looked_at = sum(row.jobs for row in rows)
        scale = max(1.0, backlog / looked_at) if looked_at >= MOST_LOOKED_AT else 1.0
        return {str(row.client_id): int(int(row.bytes) * scale) for row in rows}
