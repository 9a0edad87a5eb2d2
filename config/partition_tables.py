"""pydantic models of the operations file's keys about partitions: how the calls of a downstream are shared."""

from datetime import timedelta
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from config.table_types import Table, Whole, check_rates
from tidegate.operations.sharing import PartitionLimits, Sharing
from tidegate.timeformat import Duration

SharedBy: TypeAlias = Literal["client", "none"]
"""Whose jobs wait together where a downstream does not say: a client's, or all."""
Weight = Annotated[float, Field(ge=0.001, le=1_000_000)]


class EachTable(Table):
    """`each = { … }` of a downstream: what one partition may have, beneath what the downstream can take."""

    rate: Annotated[tuple[str, ...], BeforeValidator(check_rates)] = Field(
        (), description="Calls of one partition per window, written as the downstream's `rate`."
    )
    burst: Whole = Field(1, ge=1, le=100_000, description="Calls of one partition that may start at once.")
    concurrency: Whole | None = Field(
        None, ge=1, le=100_000, description="Calls of one partition that may be open at once; left out: no limit."
    )
    order: Literal["fair", "strict"] = Field(
        "fair",
        description="`strict`: one job of a partition at a time, in the order of submit; a job that is tried again, or "
        "may not run yet, holds those behind it.",
    )
    max_backlog: Whole | None = Field(
        None, ge=1, le=10_000_000, description="Jobs of one partition that may wait; left out: `TIDEGATE_MAX_BACKLOG`."
    )


class PartitionTable(EachTable):
    """`[downstreams.NAME.partitions.K]`: what one partition may have, in place of `each`."""

    weight: Weight = Field(1.0, description="Its share of the calls beside the others, which have 1 by default.")


def partition_limits(table: EachTable) -> PartitionLimits:
    """The limits that a table declares."""
    return PartitionLimits(
        weight=table.weight if isinstance(table, PartitionTable) else 1.0,
        rates=table.rate,
        burst=table.burst,
        concurrency=table.concurrency,
        is_strict=table.order == "strict",
        max_backlog=table.max_backlog,
    )


class SharedTable(Table):
    """The keys of a downstream that say how its calls are shared."""

    partition: Literal["client", "header", "none"] | None = Field(
        None,
        description="Whose jobs wait together, so that no other's burst stalls them: those of a `client`, or of a name "
        "in the `header` `Job-Partition`; `none`: all wait in one line. Left out: `client` where keys are on, else "
        "`none`.",
    )
    each: EachTable = Field(EachTable(), description="What one partition may have; the keys are below.")
    partitions: dict[Annotated[str, Field(pattern=r"^[!-~]{1,64}$")], PartitionTable] = Field(
        {}, description="What single partitions may have, in place of `each`, by name."
    )
    max_partitions: Whole = Field(
        1000, ge=1, le=1_000_000, description="Partitions of one client in which jobs may wait at once."
    )
    priority_step: Annotated[Duration, Field(le=timedelta(hours=1))] = Field(
        timedelta(seconds=30), description="How far a job stands behind one of the next higher `Job-Priority`."
    )
    throttle: Literal["downstream", "partition"] = Field(
        "downstream",
        description="Who rests when the downstream says that it is full, or that a quota is used up: all of its jobs, "
        "or, where it counts the calls of each by itself, those of the `partition` whose call that was.",
    )

    @property
    def is_strict(self) -> bool:
        """Whether any partition keeps the order of submit."""
        return any(each.order == "strict" for each in (self.each, *self.partitions.values()))


def key_without_effect(table: SharedTable) -> tuple[str, str] | None:
    """A key of partitions where all wait in one line, and why it would do nothing; None: there is none.

    A file that leaves it open is one for servers with keys, and good where they are off, too.
    """
    if table.partition != "none":
        return None
    if table.throttle == "partition":
        return (
            "throttle",
            'all wait in one line here, so none would rest by itself; write partition = "client" or "header"',
        )
    key = "each" if table.each != EachTable() else "partitions" if table.partitions else None
    words = 'all wait in one line here, so it would limit nobody; write partition = "client" or "header"'
    return (key, words) if key else None


def sharing_of(table: SharedTable, *, default: SharedBy) -> Sharing | None:
    """How a downstream's calls are shared; None: they are not."""
    by = table.partition or default
    if by == "none":
        return None
    return Sharing(
        by=by,
        each=partition_limits(table.each),
        named={name: partition_limits(each) for name, each in table.partitions.items()},
        max_partitions=table.max_partitions,
        priority_step=table.priority_step,
        throttle=table.throttle,
    )
