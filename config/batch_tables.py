"""pydantic model of an operation's table `batch`: many jobs in one call."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from config.table_types import Size, Table, Whole
from tidegate.operations.batch import LARGEST, LONGEST_LINGER, MOST_JOBS, Batch
from tidegate.operations.batch_formats import BatchFormat, HttpBatch
from tidegate.timeformat import read_duration


def _read_linger(value: object) -> timedelta:
    """Unlike other durations it may be nothing."""
    if not isinstance(value, bool) and value in (0, "0", "0s", "0ms"):
        return timedelta(0)
    return read_duration(value)


class BatchTable(Table):
    """`[operations.NAME.batch]`: how one call takes several jobs."""

    stand_ins: ClassVar[Mapping[str, object]] = {"max": 2, "format": "array"}

    max: Whole = Field(ge=2, le=MOST_JOBS, description="The most jobs in one call.")
    format: Literal["array", "results", "sqs"] = Field(
        description="How inputs and results stand in the call: [batches](batches.md#formats) has each with an example."
    )
    linger: Annotated[timedelta, BeforeValidator(_read_linger), Field(le=LONGEST_LINGER)] = Field(
        Batch.linger,
        description="How long a job waits for company where its downstream has no `rate`. With one nobody waits: what "
        "is there when the slot comes goes along.",
    )
    max_bytes: Size = Field(
        Batch.max_bytes,
        ge=1,
        le=LARGEST,
        description='The most bytes of all inputs in one call together: a number, or a text such as `"512KB"`.',
    )

    def declared(self) -> HttpBatch:
        """What the table declares."""
        return HttpBatch(max=self.max, linger=self.linger, max_bytes=self.max_bytes, format=BatchFormat(self.format))
