"""Clients as they are, unmodified, against the running stack: azure-core, @azure/core-lro and curl."""

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core import PipelineClient
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import RetryPolicy
from azure.core.polling import LROPoller
from azure.core.polling.base_polling import LocationPolling, LROBasePolling
from azure.core.rest import HttpRequest

from tests.support.forgetful import ForgetfulProxy
from tests.support.gateway import Gateway

CORE_LRO = "@azure/core-lro@3.4.2"
NODE_PROGRAM = Path(__file__).parents[1] / "support" / "core_lro.mjs"
INSTALL_SECONDS = 60


@pytest.fixture
def azure(gateway: Gateway) -> Iterator[PipelineClient[Any, Any]]:
    """azure-core's client with its own retry policy, which repeats 502 and 504 too; only less patient."""
    policies = [RetryPolicy(retry_backoff_factor=0.05)]
    with PipelineClient[Any, Any](gateway.url, policies=policies) as client:
        yield client


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with @azure/core-lro in it."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        pytest.skip("there is no node with npm")
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(NODE_PROGRAM, folder / "core_lro.mjs")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), CORE_LRO]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm could not get {CORE_LRO} within {INSTALL_SECONDS} s")
    if done.returncode:
        pytest.skip(f"npm could not get {CORE_LRO}: {done.stderr.decode()[-300:]}")
    return folder


def long_running(
    client: PipelineClient[Any, Any], url: str, body: Any, *, timeout: int = 60
) -> tuple[LROPoller[dict[str, Any]], list[str]]:
    """azure-core's poller of a submitted job, and where every answer's URL is noted."""
    request = HttpRequest(
        "POST", url, json=body, headers={"Idempotency-Key": str(uuid.uuid4()), "Job-Timeout": str(timeout)}
    )
    submitted = client.pipeline.run(request)
    assert submitted.http_response.status_code == 202
    location = submitted.http_response.headers["Location"]

    def document(answer: Any) -> dict[str, Any]:
        found: dict[str, Any] = answer.http_response.json()
        return found

    method: LROBasePolling[Any, Any, Any] = LROBasePolling(timeout=1, lro_algorithms=[LocationPolling()])
    return LROPoller(client, submitted, document, method), [location]


def jobs_of(gateway: Gateway, operation: str) -> list[dict[str, Any]]:
    """Every job of the operation."""
    found: list[dict[str, Any]] = gateway.client.get(f"/v1/jobs?operation={operation}&limit=200").json()["jobs"]
    return found


def test_azure_core_brings_the_result(gateway: Gateway, azure: PipelineClient[Any, Any]) -> None:
    poller, [location] = long_running(azure, f"{gateway.url}/v1/operations/sleepy_io/jobs", {"seconds": 0.5})
    document = poller.result(timeout=30)
    assert (poller.status(), document["state"], document["result"]) == ("Succeeded", "succeeded", 1)
    assert document["links"]["self"] == location


@pytest.mark.parametrize(
    ("operation", "body", "timeout", "status", "code"),
    [
        ("permanent", {}, 60, 502, "operation_error"),
        ("ignores_stop_io", {"seconds": 3}, 1, 504, "deadline_exceeded"),
    ],
    ids=["failed", "expired"],
)
def test_azure_core_raises_for_a_job_that_did_not_succeed(
    gateway: Gateway,
    azure: PipelineClient[Any, Any],
    operation: str,
    body: Any,
    timeout: int,
    status: int,
    code: str,
) -> None:
    url = f"{gateway.url}/v1/operations/{operation}/jobs"
    poller, _ = long_running(azure, url, body, timeout=timeout)
    with pytest.raises(HttpResponseError) as raised:
        poller.result(timeout=30)
    assert raised.value.status_code == status
    assert raised.value.error is not None
    assert raised.value.error.code == code
    assert poller.status() == "Failed"


def test_azure_core_repeats_its_post_under_one_key_and_there_is_one_job(
    gateway: Gateway, azure: PipelineClient[Any, Any]
) -> None:
    before = len(jobs_of(gateway, "echo"))
    with ForgetfulProxy(gateway.url, losses=2) as proxy:
        poller, _ = long_running(azure, f"{proxy.url}/v1/operations/echo/jobs", {"a": 1})
        document = poller.result(timeout=30)
    assert document["result"] == {"a": 1}
    assert len(proxy.posts) == 3
    assert len({headers["Idempotency-Key"] for headers in proxy.posts}) == 1
    assert len(jobs_of(gateway, "echo")) == before + 1


@pytest.mark.parametrize(
    ("operation", "body", "timeout", "outcome", "last"),
    [
        ("echo", {"a": 1}, 60, {"status": "succeeded", "result": {"a": 1}}, 200),
        ("permanent", {}, 60, {"status": "failed", "error": "operation_error"}, 502),
        ("ignores_stop_io", {"seconds": 3}, 1, {"status": "failed", "error": "deadline_exceeded"}, 504),
    ],
    ids=["succeeded", "failed", "expired"],
)
def test_core_lro_of_javascript_tells_each_end(
    gateway: Gateway, node_folder: Path, operation: str, body: Any, timeout: int, outcome: dict[str, Any], last: int
) -> None:
    arguments = [f"{gateway.url}/v1/operations/{operation}/jobs", json.dumps(body), str(timeout), str(uuid.uuid4())]
    done = subprocess.run(
        ["node", "core_lro.mjs", *arguments], cwd=node_folder, capture_output=True, timeout=60, check=True
    )
    told = json.loads(done.stdout)
    assert told["status"] == outcome["status"], told
    assert told["statuses"][-1] == last
    if "error" in outcome:
        assert outcome["error"] in told["error"]
    else:
        assert told["result"] == outcome["result"]


def curl(*arguments: str) -> tuple[int, str]:
    """The status of curl's last answer, and its body."""
    if not shutil.which("curl"):
        pytest.skip("there is no curl")
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", "\n%{http_code}", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True, text=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def test_curl_repeats_its_post_under_one_key_and_there_is_one_job(gateway: Gateway) -> None:
    before = len(jobs_of(gateway, "raw_echo"))
    key = str(uuid.uuid4())
    with ForgetfulProxy(gateway.url, losses=1) as proxy:
        url = f"{proxy.url}/v1/operations/raw_echo/jobs"
        status, _ = curl(
            "--retry", "3", "--retry-delay", "1", "--data", "abc", "--header", f"Idempotency-Key: {key}", url
        )
    assert status == 202
    assert len(proxy.posts) == 2
    assert len(jobs_of(gateway, "raw_echo")) == before + 1


def test_curl_that_repeats_a_failed_jobs_502_gets_it_again(gateway: Gateway) -> None:
    location = gateway.submit("permanent", json={}).headers["Location"]
    gateway.wait_final(location)
    status, _ = curl("--retry", "2", "--retry-delay", "1", "--output", "/dev/null", location)
    assert status == 502
