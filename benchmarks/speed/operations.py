"""The no-op job."""

from pydantic import BaseModel

from tidegate.operations.python_operation import operation
from tidegate.operations.queues import Queue


class Numbered(BaseModel):
    """Something to check."""

    n: int = 0


@operation(queue=Queue.IO, timeout="6h")
def nothing(params: Numbered) -> None:
    """Does nothing."""
