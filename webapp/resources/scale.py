"""The route /v1/scale: how many workers each queue has and could use, for whatever starts and stops them."""

from flask import Blueprint, Response

from tidegate.dispatch.scale import Wanted
from tidegate.operations.queues import WEBHOOKS
from webapp.context import Context, context
from webapp.http import lane_shapes
from webapp.http.auth import monitor
from webapp.http.documents import json_answer
from webapp.openapi.answers import Document
from webapp.openapi.route import described

routes = Blueprint("scale", __name__, url_prefix="/v1/scale")


@routes.get("")
@described(id="readScale", tag="Health", answers=Document("Every queue.", lane_shapes.Scale), needs="metrics")
def read() -> Response:
    """Tells how many workers of each queue are wanted; up at once, down after a minute, the same in every process."""
    monitor()
    document: lane_shapes.Scale = {
        "queues": {
            queue: {"workers": each.workers, "places": each.places, "wanted": each.wanted, "because": each.because}
            for queue, each in of_each_queue(context()).items()
        }
    }
    return json_answer(document)


def of_each_queue(own: Context) -> dict[str, Wanted]:
    """What each queue has and wants: those that operations and webhooks use, and whichever else has work or workers.

    So that who asks for a queue finds it, also when it has nothing.
    """
    declared = sorted({str(operation.queue) for operation in own.registry.operations.values()} | {WEBHOOKS})
    return {**dict.fromkeys(declared, Wanted()), **own.store.scale.wanted()}
