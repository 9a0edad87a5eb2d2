"""The no-op job, one by one and many in a call."""

from benchmarks.speed.operations import Numbered
from tidegate.operations.batch import Batch
from tidegate.operations.python_operation import operation
from tidegate.operations.queues import Queue

PLAIN, BATCHED, WIDE = "plain", "batched", "wide"


@operation(name=PLAIN, queue=Queue.IO, timeout="6h")
def plain(params: Numbered) -> None:
    """Does nothing."""


@operation(name=BATCHED, queue=Queue.IO, timeout="6h", batch=10)
def in_tens(params: list[Numbered]) -> list[None]:
    """Does nothing, for ten."""
    return [None for _ in params]


@operation(name=WIDE, queue=Queue.IO, timeout="6h", batch=Batch(max=100))
def in_hundreds(params: list[Numbered]) -> list[None]:
    """Does nothing, for a hundred."""
    return [None for _ in params]
