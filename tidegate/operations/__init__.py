"""Operations: the kinds of job, Python functions or HTTP calls, and how an attempt at one can end."""

from tidegate.errors import OperationError, PermanentError, Refused, Retry
from tidegate.operations.batch import Batch
from tidegate.operations.operation import Attempt, Body
from tidegate.operations.python_operation import operation
from tidegate.operations.queues import Queue
from tidegate.operations.retry import RetryPolicy

__all__ = [
    "Attempt",
    "Batch",
    "Body",
    "OperationError",
    "PermanentError",
    "Queue",
    "Refused",
    "Retry",
    "RetryPolicy",
    "operation",
]
