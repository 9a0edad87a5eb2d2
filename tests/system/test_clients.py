"""Clients as they are, unmodified, against the running stack: azure-core, @azure/core-lro and curl."""

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure.core import PipelineClient
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import RequestIdPolicy, RetryPolicy
from azure.core.polling import LROPoller
from azure.core.polling.base_polling import LocationPolling, LROBasePolling
from azure.core.rest import HttpRequest

from tests.support.forgetful import ForgetfulProxy
from tests.support.gateway import Gateway

CORE_LRO = "@azure/core-lro@3.4.2"
NODE_PROGRAM = Path(__file__).parents[1] / "support" / "core_lro.mjs"
INSTALL_SECONDS = 60


@dataclass(frozen=True)
class Unsuccessful:
    """A job that ends without a result, and how that is told."""

    operation: str
    body: Any
    timeout: int
    status: int
    code: str


FAILED = Unsuccessful("permanent", {}, 60, 502, "operation_error")
EXPIRED = Unsuccessful("ignores_stop_io", {"seconds": 3}, 1, 504, "deadline_exceeded")


@pytest.fixture
def azure(gateway: Gateway) -> Iterator[PipelineClient[Any, Any]]:
    """azure-core's client with its own retry policy, which repeats 502 and 504 too; only less patient."""
    policies = [RequestIdPolicy(), RetryPolicy(retry_backoff_factor=0.05)]
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
) -> LROPoller[dict[str, Any]]:
    """azure-core's poller of a job that it submitted."""
    request = HttpRequest(
        "POST", url, json=body, headers={"Idempotency-Key": str(uuid.uuid4()), "Job-Timeout": str(timeout)}
    )
    submitted = client.send_request(request, _return_pipeline_response=True)
    assert submitted.http_response.status_code == 202

    def document(answer: Any) -> dict[str, Any]:
        found: dict[str, Any] = answer.http_response.json()
        return found

    method: LROBasePolling[Any, Any, Any] = LROBasePolling(timeout=1, lro_algorithms=[LocationPolling()])
    return LROPoller(client, submitted, document, method)


def jobs_of(gateway: Gateway, operation: str) -> list[dict[str, Any]]:
    """Every job of the operation."""
    found: list[dict[str, Any]] = gateway.client.get(f"/v1/jobs?operation={operation}&limit=200").json()["jobs"]
    return found


def test_azure_core_brings_the_result(gateway: Gateway, azure: PipelineClient[Any, Any]) -> None:
    poller = long_running(azure, f"{gateway.url}/v1/operations/sleepy_io/jobs", {"seconds": 0.5})
    document = poller.result(timeout=30)
    assert (poller.status(), document["state"], document["result"]) == ("Succeeded", "succeeded", 1)


@pytest.mark.parametrize("end", [FAILED, EXPIRED], ids=["failed", "expired"])
def test_azure_core_raises_for_a_job_that_did_not_succeed(
    gateway: Gateway, azure: PipelineClient[Any, Any], end: Unsuccessful
) -> None:
    url = f"{gateway.url}/v1/operations/{end.operation}/jobs"
    poller = long_running(azure, url, end.body, timeout=end.timeout)
    with pytest.raises(HttpResponseError) as raised:
        poller.result(timeout=30)
    assert raised.value.status_code == end.status
    assert raised.value.error is not None
    assert raised.value.error.code == end.code
    assert poller.status() == "Failed"


def test_azure_core_repeats_its_post_under_one_key_and_there_is_one_job(
    gateway: Gateway, azure: PipelineClient[Any, Any]
) -> None:
    before = len(jobs_of(gateway, "echo"))
    with ForgetfulProxy(gateway.url, losses=2) as proxy:
        poller = long_running(azure, f"{proxy.url}/v1/operations/echo/jobs", {"a": 1})
        document = poller.result(timeout=30)
    assert document["result"] == {"a": 1}
    assert len(proxy.posts) == 3
    assert len({headers["Idempotency-Key"] for headers in proxy.posts}) == 1
    assert len(jobs_of(gateway, "echo")) == before + 1


def core_lro(folder: Path, url: str, body: Any, timeout: int = 60) -> dict[str, Any]:
    """How @azure/core-lro says that a submitted job ended."""
    command = ["node", "core_lro.mjs", url, json.dumps(body), str(timeout), str(uuid.uuid4())]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_core_lro_of_javascript_brings_the_result(gateway: Gateway, node_folder: Path) -> None:
    told = core_lro(node_folder, f"{gateway.url}/v1/operations/echo/jobs", {"a": 1})
    assert (told["status"], told["result"], told["statuses"][-1]) == ("succeeded", {"a": 1}, 200)


@pytest.mark.parametrize("end", [FAILED, EXPIRED], ids=["failed", "expired"])
def test_core_lro_of_javascript_rejects_for_a_job_that_did_not_succeed(
    gateway: Gateway, node_folder: Path, end: Unsuccessful
) -> None:
    url = f"{gateway.url}/v1/operations/{end.operation}/jobs"
    told = core_lro(node_folder, url, end.body, end.timeout)
    assert (told["status"], told["statuses"][-1]) == ("failed", end.status)
    assert end.code in told["error"]


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
    status, _ = curl("--retry", "2", "--retry-delay", "1", location)
    assert status == 502
