"""The webhook in the OpenAPI document: the request that the gateway itself sends when a job ends."""

from tidegate.states import FINAL_STATES
from webapp.openapi.schemas import Node, ref

_HEADERS = {
    "webhook-id": "The job's id, the same each time it is sent: what came twice is known by it.",
    "webhook-timestamp": "When it was sent, in whole seconds since 1970.",
    "webhook-signature": "`v1,` and the base64 HMAC-SHA256 of id, timestamp and body, joined by dots; two of them "
    "with a space between while a secret is being rotated.",
}


def job_ended() -> Node:
    """The Path Item's POST that a `Webhook-Url` gets."""
    events = ", ".join(f"`job.{state}`" for state in sorted(FINAL_STATES))
    return {
        "operationId": "jobEnded",
        "summary": "A job that was submitted with a `Webhook-Url` has ended.",
        "description": f"{events}. Sent at least once, tried again for a day.",
        "tags": ["Webhooks"],
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": ref("WebhookEvent")}}},
        "responses": {
            "2XX": {"description": "Taken; it is not sent again."},
            "410": {"description": "Nothing more is wanted here; it is not sent again."},
            "default": {"description": "It is sent again later; redirects are not followed."},
        },
    }
