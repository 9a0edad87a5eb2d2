"""Jobs of the running stack, as a client makes and reads them."""

from collections import Counter

import httpx2

from tests.support.persistent_client import PersistentClient
from tests.support.waiting import wait_until


def accepted(client: httpx2.Client, sku: str = "A-100", **headers: str) -> str:
    """Submits a quote that is taken and returns its URL."""
    answer = client.post("/v1/operations/quote/jobs", json={"sku": sku, "quantity": 3}, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.headers["Location"]


def final(client: httpx2.Client, url: str, *, timeout_seconds: float = 120) -> httpx2.Response:
    """Polls a job until it is final; what only a proxy or a restart says is passed over."""

    def answer() -> list[httpx2.Response]:
        try:
            found = client.get(url)
        except httpx2.TransportError:
            return []
        return [found] if found.headers.get("Tidegate-Job-State") and found.status_code != 202 else []

    return wait_until(answer, description=f"{url} is final", timeout_seconds=timeout_seconds)[0]


def pause(operator: httpx2.Client, *, paused: bool) -> None:
    """Stops the calls to the sample downstream, or lets them go on."""
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = operator.patch("/v1/downstreams/sample", json={"paused": paused}, headers=headers)
    assert answer.status_code == 200, answer.text


def assert_nothing_is_lost(client: httpx2.Client, load: PersistentClient) -> None:
    """Each job that was accepted has its price."""
    assert load.accepted
    assert load.given_up == 0, load.troubles
    ends = Counter(final(client, url).status_code for url in load.accepted)
    assert ends == {200: len(load.accepted)}, (ends, load.troubles)
    assert len(set(load.accepted)) == len(load.accepted)
