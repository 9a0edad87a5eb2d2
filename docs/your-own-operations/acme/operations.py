"""What callers can submit to. The entry point in pyproject.toml names this module, so every process finds it."""

from decimal import Decimal

from pydantic import BaseModel, Field

from tidegate.operations import Attempt, PermanentError, operation


class Line(BaseModel):
    """So many pieces at a price."""

    price: Decimal
    quantity: int = Field(ge=1)
    currency: str = "EUR"


class Invoice(BaseModel):
    """What is to be paid."""

    total: Decimal
    currency: str


@operation(timeout="5m")
def invoice(lines: list[Line], attempt: Attempt) -> Invoice:
    """Adds up the lines of an invoice, all in one currency."""
    currencies = {line.currency for line in lines}
    if len(currencies) != 1:
        raise PermanentError(f"one currency is wanted, not {len(currencies)}")
    total = sum((line.price * line.quantity for line in attempt.track(lines)), Decimal(0))
    return Invoice(total=total, currency=currencies.pop())
