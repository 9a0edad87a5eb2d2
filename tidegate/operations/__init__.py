"""What a job does, and how an attempt at it can end."""

from tidegate.errors import OperationError, PermanentError
from tidegate.operations.operation import Attempt, Body, Queue
from tidegate.operations.python_operation import operation
from tidegate.operations.retry import RetryPolicy

__all__ = ["Attempt", "Body", "OperationError", "PermanentError", "Queue", "RetryPolicy", "operation"]
