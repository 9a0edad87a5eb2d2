"""What the sample downstream sells: a price for so many of a thing."""

import hashlib
import json
from typing import Any


class QuoteError(ValueError):
    """The body does not ask for a quote; the message says what is wrong."""


def quote(content: bytes) -> dict[str, Any]:
    """The price for a body such as {"sku": "A-100", "quantity": 3}: the same for the same sku, today and tomorrow."""
    try:
        asked = json.loads(content)
    except (ValueError, RecursionError):
        raise QuoteError("the body is not JSON") from None
    if not isinstance(asked, dict):
        raise QuoteError("the body is not a JSON object")
    sku, quantity = asked.get("sku"), asked.get("quantity")
    if not isinstance(sku, str) or not 1 <= len(sku) <= 64:
        raise QuoteError("sku is not a text of 1 to 64 characters")
    if not isinstance(quantity, int) or isinstance(quantity, bool) or not 1 <= quantity <= 1_000_000:
        raise QuoteError("quantity is not a whole number from 1 to 1000000")
    digest = hashlib.sha256(sku.encode(errors="replace")).digest()
    cents = 100 + int.from_bytes(digest[:4], "big") % 50_000
    return {
        "sku": sku,
        "quantity": quantity,
        "unit_price": cents / 100,
        "total": cents * quantity / 100,
        "currency": "EUR",
    }
