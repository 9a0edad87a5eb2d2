"""An operation whose input has all that a schema can have, for the description of the API."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tidegate.operations.python_operation import operation
from tidegate.operations.queues import Queue
from webapp.http.numbers import WHOLE


class Card(BaseModel):
    """Paid by card."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["card"]
    last_four: str = Field(pattern="^[0-9]{4}$")


class Transfer(BaseModel):
    """Paid by bank transfer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["transfer"]
    days: Annotated[int, Field(ge=0, le=90), WHOLE]


class Part(BaseModel):
    """A thing and what it is made of."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sku: str = Field(min_length=1, max_length=20, examples=["A-100"])
    parts: list["Part"] = Field(default=[], max_length=3)


class Order(BaseModel):
    """What is ordered, and how it is paid."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"part": {"sku": "A-100"}, "payment": {"kind": "card", "last_four": "4242"}}]},
    )

    part: Part
    payment: Annotated[Card | Transfer, Field(discriminator="kind")]


@operation(queue=Queue.IO)
def order(params: Order) -> str:
    """Takes an order.

    Nothing is delivered.
    """
    return params.part.sku
