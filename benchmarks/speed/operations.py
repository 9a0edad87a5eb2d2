"""The no-op job."""

from pydantic import BaseModel

from tidegate.operations.operation import Queue
from tidegate.operations.python_operation import operation


class Numbered(BaseModel):
    """Something to check."""

    n: int = 0


@operation(queue=Queue.IO, timeout="6h")
def nothing(params: Numbered) -> None:
    """Does nothing."""
