"""Mass actions: cancel and retry of all jobs that a filter finds, for operators."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from flask import Blueprint, Response, request
from pydantic import ConfigDict, Field, TypeAdapter, model_validator

from tidegate.errors import InputFault, InvalidInput, TooSlow, UnsupportedBody
from tidegate.gateway import Gateway
from tidegate.jobs.filter import Filter
from tidegate.jobs.job import Job
from tidegate.mass_actions import Outcome, cancel_each, retry_each
from tidegate.operations.typed_input import parse
from tidegate.states import FINAL_STATES, OPEN_STATES, State
from webapp.context import context
from webapp.http import shapes
from webapp.http.auth import operator
from webapp.http.bodies import whole_body
from webapp.http.documents import json_answer
from webapp.http.numbers import WHOLE
from webapp.http.queries import JobFilters, Name
from webapp.http.refusals import REFUSALS
from webapp.openapi.answers import Document
from webapp.openapi.route import BAD_JSON, described, json_body

routes = Blueprint("mass_actions", __name__, url_prefix="/v1/jobs")

MOST_JOBS = 1000
MOST_COUNTED = 100_000
RETRIED = FINAL_STATES - {State.SUCCEEDED}
FILTERS = (
    *("state", "operation", "downstream", "partition", "error_code"),
    *("client", "client_id", "created_after", "created_before"),
)
# The part of the JSON Schema that pydantic can't express: a filter is needed, or `all`.
_SOMETHING: dict[str, Any] = {
    "anyOf": [
        *({"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in FILTERS),
        {"required": ["all"], "properties": {"all": {"const": True}}},
    ],
    "not": {"required": ["client", "client_id"]},
}


class Selection(JobFilters):
    """Which jobs: by filters that all hold, or `all`. Without a state: those that can be cancelled or retried.

    `limit` of them at the most, those before `cursor`; `client_id` is an older name of `client`. `dry_run` only counts.
    """

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_SOMETHING)

    client_id: Name | None = None
    all: bool = False
    dry_run: bool = False
    limit: Annotated[int, Field(ge=1, le=MOST_JOBS), WHOLE] = MOST_JOBS

    @model_validator(mode="after")
    def _check(self) -> "Selection":
        if {"client", "client_id"} <= self.model_fields_set:
            raise ValueError("client and client_id are one thing; name it once")
        return self

    def selected(self, states: Collection[State], *, is_retry: bool) -> Filter:
        """Makes the jobs' Filter, of these states if it names none; raises InvalidInput when nothing is selected."""
        if not self.all and all(getattr(self, name) is None for name in FILTERS):
            raise InvalidInput([InputFault("", 'name a filter, or say "all": true')])
        wanted = self.filter()
        return replace(
            wanted,
            states=wanted.states or states,
            client_id=self.client_id if self.client is None else self.client,
            not_retried=is_retry,
            limit=self.limit,
        )


_SELECTION = TypeAdapter(Selection)


@routes.post("/cancel")
@described(
    id="cancelJobs",
    tag="Many jobs",
    answers=Document("What became of them.", shapes.CancelCounts),
    body=json_body(Selection),
    refusals=(*BAD_JSON, TooSlow),
    needs="operator",
    writes=True,
)
def cancel() -> Response:
    """Cancels the selected jobs that are queued, asks those that run to stop. `next` is the `cursor` for the rest."""
    done = _each(cancel_each, of=OPEN_STATES, is_retry=False)
    counts: shapes.CancelCounts = {
        **done.counts,
        "cancelled": done.outcome.done,
        "asked_to_stop": done.outcome.asked,
        "already_final": done.counts["refusals"].get("job-already-final", 0),
    }
    return json_answer(counts)


@routes.post("/retry")
@described(
    id="retryJobs",
    tag="Many jobs",
    answers=Document("What became of them.", shapes.RetryCounts),
    body=json_body(Selection),
    refusals=(*BAD_JSON, TooSlow),
    needs="operator",
    writes=True,
)
def retry() -> Response:
    """Retries the selected jobs that ended without a result, each once. `next` is the `cursor` for the rest."""
    done = _each(retry_each, of=RETRIED, is_retry=True)
    counts: shapes.RetryCounts = {
        **done.counts,
        "retried": done.outcome.done,
        "refused": done.outcome.refusals.total(),
    }
    return json_answer(counts)


@dataclass(frozen=True)
class _Done:
    """The counts of a mass action, and the part of the answer that cancel and retry have in common."""

    outcome: Outcome
    counts: shapes.MassActionCounts


def _each(act: Callable[[Gateway, Sequence[Job]], Outcome], *, of: Collection[State], is_retry: bool) -> _Done:
    """Reads the selection and applies `act` to its jobs; a dry run only counts them."""
    selection = _selected()
    wanted = selection.selected(of, is_retry=is_retry)
    outcome, following = Outcome(), None
    if selection.dry_run:
        matched = context().jobs.count(wanted, most=MOST_COUNTED)
    else:
        found = context().jobs.list_all(wanted)
        outcome, matched = act(context().jobs, found), len(found)
        following = found[-1].id if matched == wanted.limit else None
    refusals = by_reason(outcome)
    counts: shapes.MassActionCounts = {
        "dry_run": selection.dry_run,
        "matched": matched,
        "refusals": refusals,
        "next": following,
    }
    return _Done(outcome, counts)


def by_reason(outcome: Outcome) -> Mapping[str, int]:
    """The numbers of refusals, by the last part of their problem's type."""
    return {REFUSALS[kind][1]: number for kind, number in sorted(outcome.refusals.items(), key=lambda each: -each[1])}


def _selected() -> Selection:
    operator()
    if request.mimetype != "application/json":
        raise UnsupportedBody("send the selection as application/json")
    selection: Selection = parse(_SELECTION, whole_body())
    return selection
