"""The examples of docs/webhooks.md, run against what is really sent."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.http_server import HttpServer
from tests.support.jobs import submit
from tests.support.processes import REPOSITORY, ChildProcess, free_port
from tests.support.waiting import wait_until
from tests.support.webhooks import delivery_of, send_due, to
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.stores import Store

RECEIVER, BY_CLIENT, VERIFY = re.findall(
    r"```python\n(.*?)```", (REPOSITORY / "docs" / "webhooks.md").read_text(), re.DOTALL
)


def cancelled_job(store: Store, url: str) -> str:
    """A job that has ended and is told there."""
    job_id = submit(store, webhook=to(url))
    store.callers.cancel(job_id, IMPLICIT_CLIENT)
    return job_id


def test_the_receiver_takes_what_is_signed_and_nothing_else(store: Store, secret: str, tmp_path: Path) -> None:
    (tmp_path / "receiver.py").write_text(RECEIVER)
    port = free_port()
    command = [sys.executable, str(tmp_path / "receiver.py"), str(port)]
    environment = {**os.environ, "WEBHOOK_SECRET": secret}
    url = f"http://127.0.0.1:{port}/"
    with ChildProcess(command, log=tmp_path / "receiver.log", environment=environment) as receiver:

        def unsigned() -> int | None:
            try:
                return httpx2.post(url, content=b"{}", headers={"webhook-id": "x"}, trust_env=False).status_code
            except httpx2.TransportError:
                return None

        assert wait_until(unsigned, description="it listens", timeout_seconds=30) == 400
        job_id = cancelled_job(store, url)
        assert send_due(store) == 1
        assert delivery_of(store, job_id).state == "delivered"
        wait_until(lambda: f"job.cancelled {job_id} None" in receiver.logs(), description="it says what came")


def test_the_lines_with_the_python_client_agree(
    store: Store, receiver: HttpServer, secret: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known: dict[str, Any] = {}
    exec(BY_CLIENT, known)  # noqa: S102 - our own page
    monkeypatch.setenv("WEBHOOK_SECRET", secret)
    job_id = cancelled_job(store, receiver.url)
    send_due(store)
    (received,) = receiver.received
    assert known["receive"](received.headers, received.body) == 204
    assert f"job.cancelled {job_id} " in capsys.readouterr().out
    assert known["receive"](received.headers, received.body + b" ") == 400


def test_the_lines_without_a_library_agree(store: Store, receiver: HttpServer, secret: str) -> None:
    known: dict[str, Any] = {}
    exec(VERIFY, known)  # noqa: S102 - our own page
    verify: Callable[..., bool] = known["verify"]
    cancelled_job(store, receiver.url)
    send_due(store)
    (received,) = receiver.received
    assert verify(secret, received.headers, received.body)
    assert not verify(secret, received.headers, received.body + b" ")
    assert not verify(secret, {**received.headers, "webhook-timestamp": "1"}, received.body)
