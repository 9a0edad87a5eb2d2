"""The table of routes for the OpenAPI document: what can't be read off the code, one entry for each view function."""

from collections.abc import Callable
from typing import Any

from tidegate import errors
from tidegate.states import State
from webapp.openapi import answers
from webapp.openapi.parts import headers
from webapp.openapi.route import Route, json_body
from webapp.openapi.schemas import Node, ref

SUBMIT_REFUSALS = (
    errors.InvalidHeader,
    errors.InvalidWebhook,
    errors.IdempotencyConflict,
    errors.JobErased,
    errors.BodyTooLarge,
    errors.UnsupportedBody,
    errors.CannotFinishInTime,
)
BAD_JSON = (errors.MalformedBody, errors.InvalidInput)
_FIRST_OPERATION: Node = {
    "readOperation": {"operationId": "readOperation", "parameters": {"name": "$response.body#/operations/0/name"}}
}
_FIRST_DOWNSTREAM: Node = {
    "readDownstream": {"operationId": "readDownstream", "parameters": {"name": "$response.body#/downstreams/0/name"}}
}
_FIRST_SECRET: Node = {
    "endWebhookSecret": {
        "operationId": "endWebhookSecret",
        "parameters": {"secret_id": "$response.body#/secrets/0/id"},
    }
}
_NEW_SECRET: Node = {
    "endWebhookSecret": {"operationId": "endWebhookSecret", "parameters": {"secret_id": "$response.body#/id"}}
}
_FIRST_OF_BATCH = answers.job_links("$response.body#/jobs/0/job/id")
_BATCH = {
    "application/json": {"schema": {"type": "array", "items": ref("Item"), "minItems": 1, "maxItems": 1000}},
    "application/x-ndjson": {"schema": {"type": "string", "description": "An `Item` a line."}},
}


def _job_as_it_is() -> Node:
    found = {
        "200": answers.ended(State.SUCCEEDED, "The job succeeded; this is its result, or where it is."),
        "202": answers.on_its_way(),
        "304": answers.not_modified(),
        **answers.job_problems(),
    }
    for answer in found.values():
        answer["headers"] |= headers("Vary", "Preference-Applied")
    found["200"]["content"] |= answers.events()["200"]["content"]
    found["200"]["description"] += " With `Accept: text/event-stream`, whatever its state: as `/events`."
    found["204"] = answers.events()["204"]
    return found


def _cancelled() -> Node:
    asked = "A running attempt was asked to stop."
    return {
        "200": answers.ended(State.CANCELLED, "The job is cancelled."),
        "202": answers.on_its_way(asked),
    }


def _jobs_listed() -> Node:
    links = answers.job_links("$response.body#/jobs/0/id")
    return {"200": answers.json("A page of jobs.", "JobList", "Cache-Control", links=links)}


def _deliveries_listed() -> Node:
    parameters = {"job_id": "$response.body#/deliveries/0/id"}
    links = {name: {"operationId": name, "parameters": parameters} for name in ("readDelivery", "sendDelivery")}
    return {"200": answers.json("A page of deliveries.", "DeliveryList", "Cache-Control", links=links)}


def _document(description: str, schema: str, **more: Any) -> Callable[[], Node]:
    return lambda: {"200": answers.json(description, schema, **more)}


ROUTES: dict[str, Route] = {
    "jobs.listing": Route(
        id="listJobs",
        tag="Jobs",
        answers=_jobs_listed,
        parameters=("state", "operation", "limit", "cursor"),
        refusals=(errors.InvalidQuery, errors.TooSlow),
        counted="reads",
    ),
    "jobs.read": Route(
        id="readJob",
        tag="Jobs",
        answers=_job_as_it_is,
        parameters=("job_id", "If-None-Match", "Prefer"),
        refusals=(errors.UnknownJob, errors.NoRoom),
        counted="reads",
    ),
    "events.read": Route(
        id="readEvents",
        tag="Jobs",
        answers=answers.events,
        parameters=("job_id", "Last-Event-ID", "ticket"),
        refusals=(errors.UnknownJob, errors.NoRoom),
        counted="reads",
    ),
    "jobs.result": Route(
        id="readResult",
        tag="Jobs",
        answers=lambda: {"200": answers.raw_result(), "202": answers.on_its_way(), **answers.job_problems()},
        parameters=("job_id",),
        refusals=(errors.UnknownJob,),
        counted="reads",
    ),
    "jobs.cancel": Route(
        writes=True,
        id="cancelJob",
        tag="Jobs",
        answers=_cancelled,
        parameters=("job_id",),
        refusals=(errors.UnknownJob, errors.JobAlreadyFinal),
    ),
    "jobs.retry": Route(
        writes=True,
        id="retryJob",
        tag="Jobs",
        answers=answers.submitted,
        parameters=("job_id", "Idempotency-Key", "Prefer"),
        refusals=(
            errors.UnknownJob,
            errors.JobNotFinal,
            errors.JobAlreadyFinal,
            errors.UnknownOperation,
            *SUBMIT_REFUSALS,
            *BAD_JSON,
        ),
        counted="submits",
    ),
    "jobs.delete": Route(
        writes=True,
        id="deleteJob",
        tag="Jobs",
        answers=lambda: {"204": {"description": "The job and its result are gone."}},
        parameters=("job_id",),
        refusals=(errors.UnknownJob, errors.JobNotFinal),
    ),
    "operations.listing": Route(
        id="listOperations",
        tag="Operations",
        answers=_document("Every operation.", "OperationList", links=_FIRST_OPERATION),
    ),
    "operations.read": Route(
        id="readOperation",
        tag="Operations",
        answers=_document("The operation.", "Operation"),
        parameters=("operation_name",),
        refusals=(errors.UnknownOperation,),
    ),
    "batch.submit": Route(
        writes=True,
        id="submitBatch",
        tag="Many jobs",
        answers=lambda: {"202": answers.json("What became of each.", "BatchAnswers", links=_FIRST_OF_BATCH)},
        parameters=("operation_of_batch", "all_or_none", "traceparent", "Webhook-Url"),
        body={"required": True, "content": _BATCH},
        refusals=(errors.UnknownOperation, errors.InvalidQuery, *SUBMIT_REFUSALS, *BAD_JSON),
        counted="submits",
    ),
    "bulk.cancel": Route(
        writes=True,
        id="cancelJobs",
        tag="Many jobs",
        answers=_document("What became of them.", "CancelCounts"),
        body=json_body(ref("Selection")),
        refusals=(*BAD_JSON, errors.TooSlow),
        needs="operator",
    ),
    "bulk.retry": Route(
        writes=True,
        id="retryJobs",
        tag="Many jobs",
        answers=_document("What became of them.", "RetryCounts"),
        body=json_body(ref("Selection")),
        refusals=(*BAD_JSON, errors.TooSlow),
        needs="operator",
    ),
    "downstreams.listing": Route(
        id="listDownstreams",
        tag="Downstreams",
        answers=_document("Every downstream.", "DownstreamList", links=_FIRST_DOWNSTREAM),
        needs="operator",
    ),
    "downstreams.read": Route(
        id="readDownstream",
        tag="Downstreams",
        answers=_document("The downstream.", "Downstream"),
        parameters=("downstream",),
        refusals=(errors.UnknownDownstream,),
        needs="operator",
    ),
    "downstreams.change": Route(
        writes=True,
        id="changeDownstream",
        tag="Downstreams",
        answers=_document("The downstream as it is now.", "Downstream"),
        parameters=("downstream",),
        body=json_body(ref("Change"), "application/merge-patch+json", "application/json"),
        refusals=(errors.UnknownDownstream, *BAD_JSON),
        needs="operator",
    ),
    "deliveries.listing": Route(
        id="listDeliveries",
        tag="Webhooks",
        answers=_deliveries_listed,
        parameters=("delivery_state", "event", "limit", "cursor"),
        refusals=(errors.InvalidQuery, errors.TooSlow),
        counted="reads",
    ),
    "deliveries.read": Route(
        id="readDelivery",
        tag="Webhooks",
        answers=lambda: {"200": answers.json("The delivery.", "Delivery", "Cache-Control")},
        parameters=("job_id",),
        refusals=(errors.UnknownDelivery,),
        counted="reads",
    ),
    "deliveries.send": Route(
        writes=True,
        id="sendDelivery",
        tag="Webhooks",
        answers=lambda: {"202": answers.json("It is sent again.", "Delivery", "Cache-Control")},
        parameters=("job_id",),
        refusals=(errors.UnknownDelivery, errors.DeliveryNotDue),
    ),
    "deliveries.send_many": Route(
        writes=True,
        id="sendDeliveries",
        tag="Webhooks",
        answers=_document("They are sent again.", "SendCounts"),
        body=json_body(ref("Sending")),
        refusals=BAD_JSON,
    ),
    "webhook_secrets.listing": Route(
        id="listWebhookSecrets",
        tag="Webhooks",
        answers=_document("The secrets, without their text.", "WebhookSecretList", links=_FIRST_SECRET),
    ),
    "webhook_secrets.rotate": Route(
        writes=True,
        id="rotateWebhookSecret",
        tag="Webhooks",
        answers=lambda: {
            "201": answers.json("The new secret, shown this once.", "NewWebhookSecret", links=_NEW_SECRET)
        },
        body={**json_body(ref("Rotation")), "required": False},
        refusals=BAD_JSON,
    ),
    "webhook_secrets.end": Route(
        writes=True,
        id="endWebhookSecret",
        tag="Webhooks",
        answers=lambda: {"204": {"description": "It signs no more."}},
        parameters=("secret_id",),
        refusals=(errors.UnknownSecret,),
    ),
    "metrics.read": Route(
        id="readMetrics", tag="Health", answers=answers.exposition, needs="metrics", uses_database=False
    ),
    "health.live": Route(
        id="isLive", tag="Health", answers=_document("It lives.", "Health"), needs="nothing", uses_database=False
    ),
    "health.ready": Route(
        id="isReady", tag="Health", answers=_document("Jobs are accepted.", "Readiness"), needs="nothing"
    ),
}
"""By Flask endpoint. The submit's routes, one for each operation, are made in `submits`."""
