"""The routes of a downstream's partitions, for operators: list them, read one, change weight and limits, pause."""

from typing import Annotated
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tidegate.access.keys import Caller
from tidegate.database.connection import after_a_write
from tidegate.dispatch.partitions.view import CURSOR_PATTERN, PartitionView, Sort
from tidegate.errors import InvalidQuery, NotShared, TooSlow, UnknownDownstream, UnsupportedBody
from tidegate.operations.sharing import PartitionLimits
from tidegate.operations.typed_input import parse
from tidegate.timeformat import instant
from webapp.context import context
from webapp.http import partition_shapes
from webapp.http.auth import operator
from webapp.http.bodies import whole_body
from webapp.http.documents import absolute, json_answer
from webapp.http.limit_changes import MERGE_PATCH, Burst, Concurrency, Rates, without_defaults
from webapp.http.queries import PARTITION_CLIENT, PARTITION_NAME, next_page, read_query
from webapp.openapi.answers import Document
from webapp.openapi.route import BAD_JSON, described, json_body

routes = Blueprint("partitions", __name__, url_prefix="/v1/downstreams")

MOST = 200


class PartitionChange(BaseModel):
    """A JSON merge patch (RFC 7396): what is named changes, null takes an earlier change back to the file's value."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=without_defaults)

    weight: Annotated[float, Field(ge=0.001, le=1_000_000, allow_inf_nan=False)] | None = None
    rate: Rates | None = None
    burst: Burst | None = None
    concurrency: Concurrency | None = None
    paused: bool | None = None


_CHANGE = TypeAdapter(PartitionChange)
_COLUMNS = {"weight": "weight", "rate": "rates", "burst": "burst", "concurrency": "concurrency"}


class _Which(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=PARTITION_NAME)] | None = None
    client: Annotated[str, Field(pattern=PARTITION_CLIENT)] | None = None

    def partition(self, caller: Caller) -> tuple[str, str]:
        """Its client and name. Where no client is said: the one that all share; with keys off the only one's."""
        client = self.client
        if client is None:
            client = "" if context().settings.auth == "keys" else caller.client_id
        return client, self.name or ""


class _Changed(_Which):
    name: Annotated[str, Field(pattern=PARTITION_NAME)]  # empty: an unnamed one


class _Query(_Which):
    sort: Sort = "waiting"
    limit: int = Field(50, ge=1, le=MOST)
    cursor: Annotated[str, Field(pattern=CURSOR_PATTERN)] | None = None


@routes.get("/<downstream>/partitions")
@described(
    id="listPartitions",
    tag="Downstreams",
    answers=Document("A page of partitions, or the one that is named.", partition_shapes.PartitionList),
    parameters=(
        *("downstream_of_partitions", "partition_name", "partition_client"),
        *("partition_sort", "limit", "partition_cursor"),
    ),
    refusals=(UnknownDownstream, NotShared, InvalidQuery, TooSlow),
    needs="operator",
)
def listing(downstream: str) -> Response:
    """Lists partitions in which jobs wait, calls are open, or something was changed; with a name that one alone."""
    caller, query = operator(), read_query(_Query)
    store, lane = context().store.partitions, _known(downstream)
    document: partition_shapes.PartitionList
    if query.name is not None:
        document = {"partitions": [_document(lane, store.read_partition(lane, *query.partition(caller)))], "next": None}
    else:
        page = store.list_partitions(lane, sort=query.sort, limit=query.limit, cursor=query.cursor, client=query.client)
        document = {
            "partitions": [_document(lane, each) for each in page.partitions],
            "next": absolute(next_page(page.cursor)) if page.cursor else None,
        }
    return json_answer(document)


@routes.patch("/<downstream>/partitions")
@described(
    id="changePartition",
    tag="Downstreams",
    answers=Document("The partition as it is now.", partition_shapes.Partition),
    parameters=("downstream_of_partitions", "changed_partition", "partition_client"),
    body=json_body(PartitionChange, *sorted(MERGE_PATCH, reverse=True)),
    refusals=(UnknownDownstream, NotShared, InvalidQuery, TooSlow, *BAD_JSON),
    needs="operator",
    writes=True,
)
def change(downstream: str) -> Response:
    """Changes a partition, or a client's weight; in force with the next release, for what waits already, too."""
    caller, query = operator(), read_query(_Changed)
    if request.mimetype not in MERGE_PATCH:
        raise UnsupportedBody(f"send a JSON merge patch as {' or '.join(sorted(MERGE_PATCH))}")
    wanted = read_change(whole_body())
    lane, (client, name) = _known(downstream), query.partition(caller)
    apply(lane, client, name, wanted)
    with after_a_write():
        return json_answer(_document(lane, context().store.partitions.read_partition(lane, client, name)))


def read_change(content: bytes) -> PartitionChange:
    """Validates a merge patch; raises MalformedBody and InvalidInput."""
    change: PartitionChange = parse(_CHANGE, content)
    return change


def apply(lane: str, client: str, name: str, wanted: PartitionChange) -> None:
    """Applies an operator's change. Raises UnknownDownstream, NotShared, InvalidQuery."""
    changes = {_COLUMNS[key]: getattr(wanted, key) for key in wanted.model_fields_set if key in _COLUMNS}
    paused = bool(wanted.paused) if "paused" in wanted.model_fields_set else None
    context().store.partitions.change(_known(lane), client, name, changes, paused=paused)
    context().notifier.wake_scheduler()


def _known(name: str) -> str:
    # PostgreSQL refuses a parameter with a NUL.
    if "\0" in name:
        raise UnknownDownstream(f"there is no downstream {name!r}; GET /v1/downstreams lists them")
    return name


def _document(lane: str, seen: PartitionView) -> partition_shapes.Partition:
    which = urlencode({"client": seen.client, "name": seen.name})
    return {
        "client": seen.client or None,
        "name": seen.name or None,
        **_limits(seen.limits),
        "order": "strict" if seen.limits.is_strict else "fair",
        "paused": seen.paused,
        "resting_until": instant(seen.rests_until),
        "resting_because": seen.rests_because,
        "declared": _limits(seen.declared),
        "changed": sorted(key for key, column in _COLUMNS.items() if column in seen.changes),
        "waiting": seen.waiting,
        "in_flight": seen.open,
        "share": None if seen.share is None else round(seen.share, 6),
        "links": {"self": absolute(f"/v1/downstreams/{quote(lane, safe='')}/partitions?{which}")},
    }


def _limits(limits: PartitionLimits) -> partition_shapes.DeclaredPartition:
    return {
        "weight": limits.weight,
        "rate": list(limits.rates),
        "burst": limits.burst,
        "concurrency": limits.concurrency,
    }
