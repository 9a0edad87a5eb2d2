"""Cancel and retry of many jobs by what they are: an operator's tools for a bad day."""

from collections.abc import Collection
from typing import Annotated

from flask import Blueprint, Response, request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from tidegate.errors import JobAlreadyFinal, Refusal, UnsupportedBody
from tidegate.job import Job
from tidegate.states import FINAL_STATES, OPEN_STATES, State
from tidegate.store.listing import Filter
from tidegate.typed_input import parse
from webapp import gateway, shapes
from webapp.auth import operator
from webapp.documents import json_answer
from webapp.numbers import WHOLE
from webapp.queries import NAME_PATTERN
from webapp.submitting import whole_body

routes = Blueprint("bulk", __name__, url_prefix="/v1/jobs")

MOST_JOBS = 1000
_Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class Selection(BaseModel):
    """Which jobs. Without a state: those that can be cancelled or retried. `limit` of them at the most."""

    model_config = ConfigDict(extra="forbid", strict=True)

    state: State | None = None
    operation: _Name | None = None
    downstream: _Name | None = None
    client_id: _Name | None = None
    created_before: AwareDatetime | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_JOBS), WHOLE] = MOST_JOBS


_SELECTION = TypeAdapter(Selection)


@routes.post("/cancel")
def cancel() -> Response:
    """Cancels those that are queued, asks those that run to stop. Call it again while `matched` is `limit`."""
    found = _found(OPEN_STATES)
    jobs = gateway().jobs
    counts: shapes.CancelCounts = {"matched": len(found), "cancelled": 0, "asked_to_stop": 0, "already_final": 0}
    for job in found:
        try:
            after = jobs.cancel(job.id, client_id=None)
        except JobAlreadyFinal:
            counts["already_final"] += 1
        else:
            counts["cancelled" if after.state is State.CANCELLED else "asked_to_stop"] += 1
    return json_answer(counts)


@routes.post("/retry")
def retry() -> Response:
    """Submits those that ended without a result again, each once. Call it again while `matched` is `limit`."""
    counts: shapes.RetryCounts = {"matched": 0, "retried": 0, "refused": 0}
    for job in _found(FINAL_STATES - {State.SUCCEEDED}, not_retried=True):
        counts["matched"] += 1
        try:
            gateway().jobs.retry(job.id, client_id=None, idempotency_key=f"retry-of-{job.id}")
        except Refusal:
            counts["refused"] += 1
        else:
            counts["retried"] += 1
    return json_answer(counts)


def _found(states: Collection[State], *, not_retried: bool = False) -> list[Job]:
    operator()
    if request.mimetype != "application/json":
        raise UnsupportedBody("send the selection as application/json")
    selection: Selection = parse(_SELECTION, whole_body())
    chosen = (selection.state,) if selection.state else states
    wanted = Filter(**selection.model_dump(exclude={"state"}), states=chosen, not_retried=not_retried)
    return list(gateway().jobs.list(wanted))
