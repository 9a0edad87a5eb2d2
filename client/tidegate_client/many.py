"""Many jobs at once, by what they are; for operators."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tidegate_client.transport import Transport, json_of

Action = Literal["cancel", "retry"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of the jobs that were meant: `done` are cancelled, or submitted again; `asked_to_stop` run still;
    `refusals` by reason. Of a dry run only `matched`, 100,000 at the most."""

    matched: int
    done: int = 0
    asked_to_stop: int = 0
    refusals: Mapping[str, int] = field(default_factory=dict)


def selection_of(filters: Mapping[str, Any]) -> dict[str, Any]:
    """As it is sent; filters that are None are none. Raises ValueError for an instant without a time zone."""
    for value in filters.values():
        if isinstance(value, datetime) and value.tzinfo is None:
            raise ValueError("an instant needs a time zone")
    written = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in filters.items()}
    return {name: value for name, value in written.items() if value is not None and value is not False}


def act_on(transport: Transport, action: Action, selection: Mapping[str, Any]) -> Counts:
    """Does it to all that the selection means, 1,000 in one request."""
    done: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    cursor: str | None = None
    while True:
        content = json.dumps({**selection, **({"cursor": cursor} if cursor else {})}).encode()
        headers = {"Content-Type": "application/json"}
        counts = json_of(transport.send("POST", f"/v1/jobs/{action}", content=content, headers=headers))
        done.update(
            matched=counts["matched"],
            done=counts["cancelled" if action == "cancel" else "retried"],
            asked_to_stop=counts.get("asked_to_stop", 0),
        )
        refusals.update(counts["refusals"])
        cursor = counts["next"]
        if cursor is None:
            return Counts(**done, refusals=dict(refusals))
