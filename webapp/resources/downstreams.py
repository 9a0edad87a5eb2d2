"""The routes of downstreams, for operators: read limits and state, change limits, pause and resume."""

from typing import Annotated

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tidegate.database.connection import after_a_write
from tidegate.dispatch.downstream import Downstream
from tidegate.dispatch.lane_view import LaneView
from tidegate.dispatch.limit_doubt import Refusals, doubt_about, jitter_doubt
from tidegate.errors import UnknownDownstream, UnsupportedBody
from tidegate.operations.typed_input import parse
from tidegate.timeformat import instant
from webapp.context import context
from webapp.http import lane_shapes
from webapp.http.auth import operator
from webapp.http.bodies import whole_body
from webapp.http.documents import absolute, json_answer
from webapp.http.limit_changes import MERGE_PATCH, Burst, Concurrency, Rates, without_defaults
from webapp.http.numbers import WHOLE
from webapp.openapi.answers import Document, links
from webapp.openapi.route import BAD_JSON, described, json_body

routes = Blueprint("downstreams", __name__, url_prefix="/v1/downstreams")


class Change(BaseModel):
    """A JSON merge patch (RFC 7396): what is named changes, null takes an earlier change back to the file's value."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=without_defaults)

    rate: Rates | None = None
    burst: Burst | None = None
    concurrency: Concurrency | None = None
    breaker: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = None
    paused: bool | None = None


_CHANGE = TypeAdapter(Change)
_COLUMNS = {"rate": "rates", "burst": "burst", "concurrency": "concurrency", "breaker": "breaker_after"}


@routes.get("")
@described(
    id="listDownstreams",
    tag="Downstreams",
    answers=Document(
        "Every downstream.",
        lane_shapes.DownstreamList,
        links=links("readDownstream", parameters={"name": "$response.body#/downstreams/0/name"}),
    ),
    needs="operator",
)
def listing() -> Response:
    """Lists every downstream."""
    operator()
    store = context().store
    held, refused, clock_error = store.lanes.held(), store.lanes.refused(), store.heartbeats.clock_error()
    views = context().lanes.views(fresh=True)
    lanes = [_document(lane, held.get(name, 0), refused.get(name), clock_error) for name, lane in views.items()]
    document: lane_shapes.DownstreamList = {"downstreams": lanes}
    return json_answer(document)


@routes.get("/<name>")
@described(
    id="readDownstream",
    tag="Downstreams",
    answers=Document("The downstream.", lane_shapes.Downstream),
    parameters=("downstream",),
    refusals=(UnknownDownstream,),
    needs="operator",
)
def read(name: str) -> Response:
    """Reads one downstream as it is now."""
    operator()
    return _answer(name)


@routes.patch("/<name>")
@described(
    id="changeDownstream",
    tag="Downstreams",
    answers=Document("The downstream as it is now.", lane_shapes.Downstream),
    parameters=("downstream",),
    body=json_body(Change, *sorted(MERGE_PATCH, reverse=True)),
    refusals=(UnknownDownstream, *BAD_JSON),
    needs="operator",
    writes=True,
)
def change(name: str) -> Response:
    """Changes limits or pauses; in force for the whole cluster with the next release, and kept over restarts."""
    operator()
    if request.mimetype not in MERGE_PATCH:
        raise UnsupportedBody(f"send a JSON merge patch as {' or '.join(sorted(MERGE_PATCH))}")
    apply(name, read_change(whole_body()))
    with after_a_write():
        return _answer(name)


def read_change(content: bytes) -> Change:
    """Validates a merge patch; raises MalformedBody and InvalidInput."""
    change: Change = parse(_CHANGE, content)
    return change


def apply(name: str, wanted: Change) -> None:
    """Applies an operator's change. Raises UnknownDownstream."""
    changes = {_COLUMNS[key]: getattr(wanted, key) for key in wanted.model_fields_set if key in _COLUMNS}
    paused = bool(wanted.paused) if "paused" in wanted.model_fields_set else None
    if not _is_known(name) or not context().store.limits.change(name, changes, paused=paused):
        raise _unknown(name)
    context().notifier.wake_scheduler()


def _answer(name: str) -> Response:
    lanes = context().lanes
    lane = lanes.counted(name, anew=True) if _is_known(name) else None
    if lane is None:
        raise _unknown(name)
    store = context().store
    in_flight, refused = store.lanes.held().get(name, 0), store.lanes.refused().get(name)
    return json_answer(_document(lane, in_flight, refused, store.heartbeats.clock_error()))


def _is_known(name: str) -> bool:
    # PostgreSQL refuses a parameter with a NUL.
    return "\0" not in name and context().lanes.view(name, fresh=True) is not None


def _unknown(name: str) -> UnknownDownstream:
    return UnknownDownstream(f"there is no downstream {name!r}; GET /v1/downstreams lists them")


def _document(lane: LaneView, in_flight: int, refusals: Refusals | None, clock_error: int) -> lane_shapes.Downstream:
    downstream, sample = lane.downstream, lane.sample
    limits, declared = downstream.limits, downstream.declared
    return {
        "name": downstream.name,
        "rate": list(limits.rates),
        "burst": limits.burst,
        "concurrency": limits.concurrency,
        "breaker": limits.breaker_after,
        "jitter": limits.jitter / 1e6,
        "paused": downstream.paused,
        "resting_until": instant(downstream.rests_until),
        "resting_because": downstream.rests_because,
        "announced": [
            {"name": name, "left": left, "resets_at": instant(resets_at)}
            for name, left, resets_at in downstream.announced
        ],
        "breaker_open": downstream.is_broken,
        "failures_in_a_row": downstream.failures,
        "declared": {
            "rate": list(declared.rates),
            "burst": declared.burst,
            "concurrency": declared.concurrency,
            "breaker": declared.breaker_after,
            "jitter": declared.jitter / 1e6,
        },
        "changed": sorted(key for key, column in _COLUMNS.items() if column in downstream.changes),
        "backlog": sample.backlog if sample else 0,
        "in_flight": in_flight,
        "released_per_second": round(sample.per_second * lane.fill, 3) if sample and sample.backlog else 0.0,
        "released": downstream.released_jobs,
        "jobs_per_call": round(lane.fill, 3),
        "warnings": _warnings(downstream, refusals, clock_error),
        "links": {"self": absolute(f"/v1/downstreams/{downstream.name}")},
    }


def _warnings(
    downstream: Downstream, refusals: Refusals | None, clock_error: int
) -> list[lane_shapes.DownstreamWarning]:
    limit, jitter = doubt_about(downstream, refusals), jitter_doubt(downstream, clock_error)
    found: list[lane_shapes.DownstreamWarning] = []
    if limit:
        found.append({"code": "limit_too_high", "message": limit.message})
    if jitter:
        found.append({"code": "jitter_too_small", "message": jitter})
    return found
