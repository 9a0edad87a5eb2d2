"""A client as one should be: under load it tries again under the same Idempotency-Key until it has a 202."""

import logging
import threading
import time
import uuid
from collections import Counter
from types import TracebackType
from typing import Self

import httpx2

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 90
_AGAIN_SECONDS = 0.2


class PersistentClient:
    """Submits quotes from a thread, so many a second, while a `with` lasts.

    `accepted` are the URLs of the jobs, `troubles` counts what came in place of a 202: statuses and exceptions.
    """

    def __init__(self, client: httpx2.Client, *, per_second: float) -> None:
        self.accepted: list[str] = []
        self.troubles: Counter[str] = Counter()
        self.given_up = 0
        self._client = client
        self._pause = 1 / per_second
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(timeout=_PATIENCE_SECONDS + 30)
        log.info("accepted %d, given up %d, in between %s", len(self.accepted), self.given_up, dict(self.troubles))

    def _run(self) -> None:
        number = 0
        while not self._stopped.wait(self._pause):
            number += 1
            url = self._submit(number)
            if url:
                self.accepted.append(url)
            else:
                self.given_up += 1

    def _submit(self, number: int) -> str | None:
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            try:
                answer = self._client.post(
                    "/v1/operations/quote/jobs", json={"sku": f"L-{number}", "quantity": 1}, headers=headers
                )
            except httpx2.TransportError as error:
                self.troubles[type(error).__name__] += 1
            else:
                if answer.status_code == 202:
                    return answer.headers["Location"]
                self.troubles[f"{answer.status_code} {answer.text[:200]}"] += 1
            time.sleep(_AGAIN_SECONDS)
        return None
