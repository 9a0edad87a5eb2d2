"""SQL of the partition that a job waits in: what its row says, for statements on jobs."""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, case, func, select, type_coerce

from tidegate.database.key_parts import after_slash, before_slash
from tidegate.database.schema import jobs, partitions
from tidegate.jobs.transitions import NOW


def of_partition(what: ColumnElement[Any]) -> ColumnElement[Any]:
    """A column of the partition's row, or what is made of some; NULL where the job has no partition, or that no row.

    A scalar subquery, and so an index step for each job: PostgreSQL would make a join of an EXISTS.
    """
    return (
        select(what)
        .where(
            partitions.c.downstream == jobs.c.downstream,
            partitions.c.client == before_slash(jobs.c.partition),
            partitions.c.name == after_slash(jobs.c.partition),
        )
        .correlate(jobs)
        .scalar_subquery()
    )


OWN = of_partition(case((partitions.c.next_slot_at.is_(None), 0), else_=1) + 2 * partitions.c.refusals)
"""What a claim must know of the partition, in one number: twice its refusals in a row, plus 1 if it has rates of its
own; NULL: there is none. `read_own` reads it."""


def read_own(number: int | None) -> tuple[int, bool]:
    """The refusals in a row of a partition, and whether it has rates of its own."""
    refusals, is_paced = divmod(number or 0, 2)
    return refusals, bool(is_paced)


RESTED_UNTIL = of_partition(type_coerce(partitions.c.rests_until, BigInteger))
"""Until when the partition gets nothing by the downstream's answers, in microseconds. NULL: they said nothing of it."""


def partition_rests() -> ColumnElement[bool]:
    """Condition: the job's partition gets nothing now, because of the downstream's answers."""
    return func.coalesce(RESTED_UNTIL, 0) > NOW
