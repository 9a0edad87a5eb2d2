"""The routes of deliveries: read what was sent to webhooks and how that went, send again by hand."""

from typing import Annotated, Literal
from uuid import UUID

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tidegate.database.connection import after_a_write
from tidegate.errors import DeliveryNotDue, InvalidQuery, TooSlow, UnknownDelivery, UnsupportedBody
from tidegate.operations.typed_input import parse
from tidegate.timeformat import instant
from tidegate.webhooks.delivery import Delivery, DeliveryFilter, DeliveryState
from webapp.context import context
from webapp.http import webhook_shapes
from webapp.http.auth import caller
from webapp.http.bodies import whole_body
from webapp.http.documents import absolute, json_answer
from webapp.http.numbers import WHOLE
from webapp.http.queries import MOST_JOBS, Name, Period, next_page, read_query
from webapp.http.rate_limits import count
from webapp.openapi.answers import Document, links
from webapp.openapi.route import BAD_JSON, described, json_body

routes = Blueprint("deliveries", __name__, url_prefix="/v1/deliveries")

MOST_SENT = 1000


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")

    state: DeliveryState | None = None
    event: webhook_shapes.EventName | None = None
    limit: int = Field(50, ge=1, le=MOST_JOBS)
    cursor: UUID | None = None


class Sending(Period):
    """Which deliveries to send again; `limit` of them at the most."""

    model_config = ConfigDict(extra="forbid", strict=True)

    state: Literal["pending", "delivered", "failed"] = "failed"
    event: webhook_shapes.EventName | None = None
    client_id: Name | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_SENT), WHOLE] = MOST_SENT


_SENDING = TypeAdapter(Sending)


@routes.get("")
@described(
    id="listDeliveries",
    tag="Webhooks",
    answers=Document(
        "A page of deliveries.",
        webhook_shapes.DeliveryList,
        headers=("Cache-Control",),
        links=links("readDelivery", "sendDelivery", parameters={"job_id": "$response.body#/deliveries/0/id"}),
    ),
    parameters=("delivery_state", "event", "limit", "cursor"),
    refusals=(InvalidQuery, TooSlow),
    counted="reads",
)
def listing() -> Response:
    """Lists the caller's deliveries with their attempts, newest job first, a page at a time."""
    count(context().poll_limit, "reads")
    query = read_query(_Query)
    found = context().store.deliveries.list(
        DeliveryFilter(
            client_id=caller().scope,
            state=query.state,
            event=query.event,
            before_id=str(query.cursor) if query.cursor else None,
            limit=query.limit + 1,
        )
    )
    page = found[: query.limit]
    document: webhook_shapes.DeliveryList = {
        "deliveries": [_document(delivery) for delivery in page],
        "next": absolute(next_page(page[-1].job_id)) if len(found) > query.limit else None,
    }
    return _private(json_answer(document))


@routes.get("/<uuid:job_id>")
@described(
    id="readDelivery",
    tag="Webhooks",
    answers=Document("The delivery.", webhook_shapes.Delivery, headers=("Cache-Control",)),
    parameters=("job_id",),
    refusals=(UnknownDelivery,),
    counted="reads",
)
def read(job_id: UUID) -> Response:
    """Reads the delivery of one job."""
    count(context().poll_limit, "reads")
    return _private(json_answer(_document(_delivery(job_id))))


@routes.post("/<uuid:job_id>/send")
@described(
    id="sendDelivery",
    tag="Webhooks",
    answers=Document("It is sent again.", webhook_shapes.Delivery, status=202, headers=("Cache-Control",)),
    parameters=("job_id",),
    refusals=(UnknownDelivery, DeliveryNotDue),
    writes=True,
)
def send(job_id: UUID) -> Response:
    """Sends a delivery again, now, whatever became of it before; for a day, as at first, until it is taken."""
    if _delivery(job_id).state is DeliveryState.WAITING:
        raise DeliveryNotDue("the job has not ended; its webhook is sent when it does")
    context().store.deliveries.send_one_again(str(job_id))
    with after_a_write():
        return _private(json_answer(_document(_delivery(job_id)), 202))


@routes.post("/send")
@described(
    id="sendDeliveries",
    tag="Webhooks",
    answers=Document("They are sent again.", webhook_shapes.SendCounts),
    body=json_body(Sending),
    refusals=BAD_JSON,
    writes=True,
)
def send_many() -> Response:
    """Sends deliveries again: those that failed, or others. Call it again while `sent_again` is `limit`."""
    scope = caller().scope
    if request.mimetype != "application/json":
        raise UnsupportedBody("send the selection as application/json")
    chosen: Sending = parse(_SENDING, whole_body())
    document: webhook_shapes.SendCounts = {"sent_again": 0}
    if scope is None or chosen.client_id in {None, scope}:
        wanted = DeliveryFilter(
            client_id=scope or chosen.client_id,
            state=DeliveryState(chosen.state),
            event=chosen.event,
            created_after=chosen.created_after,
            created_before=chosen.created_before,
            limit=chosen.limit,
        )
        document["sent_again"] = context().store.deliveries.send_again(wanted)
    return json_answer(document)


def _delivery(job_id: UUID) -> Delivery:
    found = context().store.deliveries.get(str(job_id), caller().scope)
    if found is None:
        raise UnknownDelivery(f"there is no webhook of a job {job_id}")
    return found


def _private(response: Response) -> Response:
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def _document(delivery: Delivery) -> webhook_shapes.Delivery:
    url = absolute(f"/v1/deliveries/{delivery.job_id}")
    return {
        "id": delivery.job_id,
        "url": delivery.url,
        "state": delivery.state,
        "event": delivery.event,
        "created_at": instant(delivery.created_at),
        "next_attempt_at": None if delivery.is_sending else instant(delivery.run_at),
        "ended_at": instant(delivery.ended_at),
        "attempts": [
            {
                "number": attempt.number,
                "started_at": instant(attempt.started_at),
                "seconds": None if attempt.seconds is None else round(attempt.seconds, 3),
                "status": attempt.status,
                "error": attempt.error,
            }
            for attempt in delivery.attempts
        ],
        "links": {"self": url, "job": absolute(f"/v1/jobs/{delivery.job_id}"), "send": f"{url}/send"},
    }
