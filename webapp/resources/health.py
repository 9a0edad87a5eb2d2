"""Health checks: liveness of this process, and readiness to accept jobs."""

from flask import Blueprint, Response

from tidegate.notify.messages import is_reachable
from tidegate.operations.queues import WEBHOOKS
from webapp.context import context
from webapp.http import shapes
from webapp.http.documents import json_answer
from webapp.openapi.answers import Document
from webapp.openapi.route import described

routes = Blueprint("health", __name__, url_prefix="/health")


@routes.get("/live")
@described(
    id="isLive", tag="Health", answers=Document("It lives.", shapes.Health), needs="nothing", uses_database=False
)
def live() -> Response:
    """Answers 200 while the process answers at all."""
    document: shapes.Health = {"status": "live"}
    return json_answer(document)


@routes.get("/ready")
@described(id="isReady", tag="Health", answers=Document("Jobs are accepted.", shapes.Readiness), needs="nothing")
def ready() -> Response:
    """Answers 200 when jobs can be accepted, 503 when not; also says whether they are dispatched.

    503: the database does not answer, or takes no writes.
    """
    context().store.database.check_writable()
    workers = context().store.heartbeats.sizes()
    broker = is_reachable(context().settings.broker_url)
    dispatching = broker is not False and bool(workers.keys() - {WEBHOOKS})
    document: shapes.Readiness = {
        "status": "ready" if dispatching else "accepting, not dispatching",
        "database": "ok",
        "broker": "not asked" if broker is None else "ok" if broker else "away",
        "workers": workers,
    }
    return json_answer(document)
