"""The operation whose jobs are paid for: it does nothing. Imported by the processes of both trees."""

from typing import TYPE_CHECKING

from price_names import first_of

if TYPE_CHECKING:
    from tidegate.operations.operation import Body
    from tidegate.operations.python_operation import operation
    from tidegate.operations.queues import Queue
else:
    Body = first_of("tidegate.operations.operation:Body", "tidegate.operations:Body")
    Queue = first_of("tidegate.operations.operation:Queue", "tidegate.operations:Queue")
    operation = first_of(
        "tidegate.operations.python_operation:operation",
        "tidegate.python_operation:operation",
        "tidegate.operations:operation",
    )


@operation(queue=Queue.IO, timeout="6h")
def nothing(body: Body) -> Body:
    """Gives back what it got."""
    return body
