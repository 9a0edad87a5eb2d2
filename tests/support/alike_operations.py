"""Operations whose inputs have names that generators of clients take for one another's."""

from pydantic import BaseModel, ConfigDict

from tidegate.operations.python_operation import operation
from tidegate.operations.queues import Queue


class Input(BaseModel):
    """Its name is that of the whole input."""

    title: str


class Order(BaseModel):
    """Called as another operation's input, with a member that is called as a keyword and one in its example."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Dr", "default": {"title": "Mr"}}]})

    title: str
    default: Input


class Error(BaseModel):
    """With its operation's name that of one of the API's own schemas."""

    error: Input


class Wrapped(BaseModel):
    """Holds the one above."""

    inner: Error


@operation(queue=Queue.IO)
def orders(params: Order) -> str:
    """Takes an order of another kind."""
    return params.title


@operation(queue=Queue.IO)
def job(params: Wrapped) -> str:
    """Its `Error` would be another `JobError`."""
    return params.inner.error.title
