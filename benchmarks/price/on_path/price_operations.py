"""The operation whose jobs are paid for: it does nothing. Imported by the processes of both trees."""

try:
    from tidegate.operations.operation import Body, Queue, operation
except ImportError:
    from tidegate.operations.operation import Body, Queue
    from tidegate.operations.python_operation import operation


@operation(queue=Queue.IO, timeout="6h")
def nothing(body: Body) -> Body:
    """Gives back what it got."""
    return body
