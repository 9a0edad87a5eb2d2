"""A partner's bulk endpoint that doubles numbers, and what became of the jobs that went there together."""

import json
import socket
import threading
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from tests.support.http_server import HttpServer, respond
from tests.support.waiting import wait_until
from tests.support.web import Web
from tidegate.database.schema import attempts
from tidegate.jobs.job import InBatch

PATIENCE = 60  # for a loaded machine


class Bulk:
    """A partner's bulk endpoint: doubles each `n`, answers 422 to one alone that is less than nothing, 400 to all."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self.is_open = threading.Event()
        self.is_open.set()
        self.status = 200
        server.answer = self._answer

    @property
    def calls(self) -> list[list[int]]:
        """The numbers of each call."""
        return [[each["body"]["n"] for each in json.loads(call.body)["requests"]] for call in self._server.received]

    @property
    def keys(self) -> list[str]:
        """The Idempotency-Key of each call."""
        return [call.headers["idempotency-key"] for call in self._server.received]

    def _answer(self, connection: socket.socket) -> None:
        requests = json.loads(self._server.received[-1].body)["requests"]  # one call at a time: concurrency is 1
        self.is_open.wait(PATIENCE)
        if any(each["body"]["n"] < 0 for each in requests):
            respond(400, b"one of them is less than nothing")(connection)
            return
        results = [{"id": each["id"], "status": self.status, "body": each["body"]["n"] * 2} for each in requests]
        respond(200, json.dumps({"results": results}).encode(), content_type="application/json")(connection)


def submit_all(face: Web, operation: str, *inputs: Any, **headers: str) -> list[str]:
    return [face.accepted(operation, json.dumps(each), **headers) for each in inputs]


def ended(face: Web, ids: Sequence[str]) -> list[tuple[str, Any]]:
    """Waits until all have ended; of each its state and its result, or its error's code."""

    def documents() -> list[Any]:
        found = [face.read(job_id).get_json() for job_id in ids]
        return found if all(each["state"] in {"succeeded", "failed", "cancelled", "expired"} for each in found) else []

    found = wait_until(documents, description="all have ended", timeout_seconds=PATIENCE)
    return [(each["state"], each["error"]["code"] if each["state"] == "failed" else each["result"]) for each in found]


def outcomes(face: Web, ids: Sequence[str]) -> list[list[str | None]]:
    """How the attempts of each ended, first to last."""
    rows = face.database.fetch_all(select(attempts).where(attempts.c.job_id.in_(ids)).order_by(attempts.c.fence))
    return [[row.outcome for row in rows if row.job_id == job_id] for job_id in ids]


def batch_id_of(ids: Sequence[str]) -> str:
    return InBatch.among(ids)[0].id


def doubled(*numbers: int) -> list[tuple[str, Any]]:
    return [("succeeded", number * 2) for number in numbers]


def numbers(*given: int) -> list[dict[str, int]]:
    return [{"n": number} for number in given]
