"""The routes of webhook secrets: make or rotate one, which is shown once, list them without their text, end one."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tidegate.errors import UnknownSecret, UnsupportedBody
from tidegate.operations.typed_input import parse
from tidegate.timeformat import instant
from tidegate.webhooks.signing import WebhookSecret
from webapp.context import context
from webapp.http import webhook_shapes
from webapp.http.auth import caller
from webapp.http.bodies import whole_body
from webapp.http.documents import json_answer
from webapp.http.numbers import WHOLE
from webapp.openapi.answers import Document, NoContent, links
from webapp.openapi.route import BAD_JSON, described, json_body

routes = Blueprint("webhook_secrets", __name__, url_prefix="/v1/webhook-secrets")

_DAY_SECONDS = 86_400


class Rotation(BaseModel):
    """How long, in seconds, the secret before the new one signs beside it; 0: it ends now."""

    model_config = ConfigDict(extra="forbid", strict=True)

    overlap: Annotated[int, Field(ge=0, le=30 * _DAY_SECONDS), WHOLE] = _DAY_SECONDS


_ROTATION = TypeAdapter(Rotation)


@routes.post("")
@described(
    id="rotateWebhookSecret",
    tag="Webhooks",
    answers=Document(
        "The new secret, shown this once.",
        webhook_shapes.NewWebhookSecret,
        status=201,
        links=links("endWebhookSecret", parameters={"secret_id": "$response.body#/id"}),
    ),
    body=json_body(Rotation, required=False),
    refusals=BAD_JSON,
    writes=True,
)
def rotate() -> Response:
    """Makes a secret and shows it, this once. The one before it signs beside it for a day, or as long as is asked."""
    client_id = caller().client_id
    content = whole_body()
    if content and request.mimetype != "application/json":
        raise UnsupportedBody("send nothing, or application/json")
    rotation: Rotation = parse(_ROTATION, content) if content else Rotation()
    made, secret = context().secrets.rotate(client_id, overlap=timedelta(seconds=rotation.overlap))
    document: webhook_shapes.NewWebhookSecret = {**_document(made), "secret": secret}
    response = json_answer(document, 201)
    response.headers["Cache-Control"] = "no-store"
    return response


@routes.get("")
@described(
    id="listWebhookSecrets",
    tag="Webhooks",
    answers=Document(
        "The secrets, without their text.",
        webhook_shapes.WebhookSecretList,
        links=links("endWebhookSecret", parameters={"secret_id": "$response.body#/secrets/0/id"}),
    ),
)
def listing() -> Response:
    """Lists the secrets that sign now, without their text; operators see every client's."""
    secrets = context().secrets.all_of(caller().scope)
    document: webhook_shapes.WebhookSecretList = {"secrets": [_document(secret) for secret in secrets]}
    return json_answer(document)


@routes.delete("/<uuid:secret_id>")
@described(
    id="endWebhookSecret",
    tag="Webhooks",
    answers=NoContent("It signs no more."),
    parameters=("secret_id",),
    refusals=(UnknownSecret,),
    writes=True,
)
def end(secret_id: UUID) -> Response:
    """Ends a secret at once, as when it became known."""
    if not context().secrets.end(str(secret_id), caller().scope):
        raise UnknownSecret(f"there is no secret {secret_id} that signs")
    return Response(status=204)


def _document(secret: WebhookSecret) -> webhook_shapes.WebhookSecret:
    return {
        "id": secret.id,
        "client_id": secret.client_id,
        "created_at": instant(secret.created_at),
        "signs_until": instant(secret.signs_until),
    }
