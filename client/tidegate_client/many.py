"""Many jobs at once, by what they are; for operators."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict

from tidegate_client.protocol import Call, Gateway, Steps, told_in_answer
from tidegate_client.snapshot import State

Action = Literal["cancel", "retry"]


class Filters(TypedDict, total=False):
    """Which jobs: those for which all of this holds, as `Client.jobs` has it."""

    state: State | str | None
    operation: str | None
    downstream: str | None
    partition: str | None
    error_code: str | None
    created_after: datetime | None
    created_before: datetime | None
    client: str | None


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
    written = {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for name, value in filters.items()
    }
    return {name: value for name, value in written.items() if value is not None and value is not False}


def act_on(gateway: Gateway, action: Action, selection: Mapping[str, Any]) -> Steps[Counts]:
    """Does it to all that the selection means, 1,000 in one request."""
    done: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    cursor: str | None = None
    while True:
        content = json.dumps({**selection, **({"cursor": cursor} if cursor else {})}).encode()
        call = Call(
            method="POST", path=f"/v1/jobs/{action}", content=content, headers={"Content-Type": "application/json"}
        )
        page, cursor = yield from told_in_answer(gateway, call, lambda told: (_counts(action, told), told["next"]))
        done.update(matched=page.matched, done=page.done, asked_to_stop=page.asked_to_stop)
        refusals.update(page.refusals)
        if cursor is None:
            return Counts(**done, refusals=dict(refusals))


def _counts(action: Action, document: Mapping[str, Any]) -> Counts:
    return Counts(
        matched=int(document["matched"]),
        done=int(document["cancelled" if action == "cancel" else "retried"]),
        asked_to_stop=int(document.get("asked_to_stop", 0)),
        refusals={reason: int(number) for reason, number in document["refusals"].items()},
    )
