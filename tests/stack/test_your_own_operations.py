"""The stack with the operations of a repository beside the source, as docs/your-own-operations.md says."""

import json
import shutil
from collections.abc import Iterator

import httpx2
import pytest

from tests.stack.jobs import final
from tests.support.compose import Compose, docker, inspect
from tests.support.own_operations import TEMPLATE, commands, with_a_queue
from tests.support.processes import REPOSITORY

IMAGE = "acme:test"
SECRET = "only-a-sample"
INVOICE = [{"price": "9.90", "quantity": 2}]
ORDER = {"customer": "AC/DC", "lang": "de", "order": {"total": 19.80}}
GREET = """

@operation(queue="io")
def greet(name: str) -> str:
    return f"Hi {name}"
"""
OURS = ("web", "scheduler", "worker-io", "worker-cpu", "worker-webhooks", "flower", "sample")
FIRST_IMAGE = "(cd ../tidegate && docker compose build)\n"


@pytest.fixture(scope="module")
def own(stack: Compose, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """The template beside the source, built from the image under test without network, and started by the page."""
    stack.one_of_each()
    folder = tmp_path_factory.mktemp("own")
    (folder / "tidegate").symlink_to(REPOSITORY)
    acme = shutil.copytree(TEMPLATE, folder / "acme")
    (acme / "compose.override.yaml").write_text("services: {migrate: {build: {network: none}}}\n")
    compose = Compose(acme, {"LEASE_SECONDS": "5"}, root=acme, project="tidegate-test-own", image=IMAGE)
    compose.down(volumes=True)
    (acme / "secrets" / "client_secret").write_text(f"{SECRET}\n")
    (acme / "secrets" / "client_secret").chmod(0o444)
    build_and_start = commands("4. The image and the stack")[0]
    assert build_and_start.startswith(FIRST_IMAGE)
    said = compose.shell(build_and_start.removeprefix(FIRST_IMAGE), minutes=10)
    assert "no fault in 3 operation(s) and 1 downstream(s)" in said
    yield compose
    compose.down(volumes=True)
    docker("image", "rm", "--force", IMAGE)


@pytest.fixture(scope="module")
def shop(own: Compose) -> Iterator[httpx2.Client]:
    """A client with the key of a caller."""
    with own.client(own.make_key("shop", "client")) as client:
        yield client


def submit(client: httpx2.Client, operation: str, params: object) -> httpx2.Response:
    """Submits a job that is taken, and returns its end."""
    answer = client.post(f"/v1/operations/{operation}/jobs", json=params)
    assert answer.status_code == 202, answer.text
    return final(client, answer.headers["Location"])


def test_the_page_s_submits_succeed_in_python_and_over_http(own: Compose) -> None:
    written = own.shell(commands("4. The image and the stack")[1].replace("127.0.0.1:8000", f"127.0.0.1:{own.port}"))
    decoder, jobs = json.JSONDecoder(), []
    while written.strip():
        job, end = decoder.raw_decode(written.strip())
        jobs.append(job)
        written = written.strip()[end:]
    assert [(job["operation"], job["state"]) for job in jobs] == [("invoice", "succeeded"), ("order", "succeeded")]
    assert jobs[0]["result"] == {"total": "19.80", "currency": "EUR"}
    assert jobs[1]["result"] == {"customer": "AC/DC", "lang": "de", "total": 19.80}


def test_every_process_is_of_the_image_which_has_no_test_and_no_secret(own: Compose) -> None:
    for service in OURS:
        for container in own.containers(service):
            assert inspect(container)["Config"]["Image"] == IMAGE, service
    names = " -o ".join(f"-name '{name}'" for name in ("test_operations*", ".env*", "*secret"))
    look = f"ls -A /app /opt/acme; find / -xdev {names} 2>/dev/null || true"
    files = docker("run", "--rm", "--network=none", IMAGE, "sh", "-c", look).split()
    app = ["config", "demo", "migrations", "tasks", "tidegate", "webapp"]
    assert files == ["/app:", *app, "/opt/acme:", "operations.toml", "order.schema.json"]
    assert docker("run", "--rm", "--network=none", IMAGE, "id", "-un").strip() == "tidegate"
    shown = docker("inspect", IMAGE, *own.containers()) + docker("history", "--no-trunc", IMAGE)
    shown += own.run("config") + own.run("logs", "--no-color")
    assert SECRET not in shown
    for service in ("worker-io", "worker-cpu"):
        assert "client_secret" in own.run("exec", "-T", service, "ls", "/run/secrets")
    for service in ("web", "scheduler", "worker-webhooks", "flower"):
        assert "client_secret" not in own.run("exec", "-T", service, "ls", "/run/secrets"), service


def test_a_change_is_deployed_behind_a_proxy_that_stays(own: Compose, shop: httpx2.Client) -> None:
    module = own.secrets.parent / "acme" / "operations.py"
    module.write_text(
        f"{module.read_text()}\n\n@operation(queue='gpu')\ndef greet(name: str) -> str:\n    return f'Hi {{name}}'\n"
    )
    with_a_queue(own.secrets.parent)
    assert shop.post("/v1/operations/greet/jobs", json="you").status_code == 404

    door, web = own.containers("proxy"), own.containers("web")

    (deploy,) = commands("5. Deploy a change")
    assert "no fault in 4 operation(s)" in own.shell(deploy, minutes=15)

    assert own.containers("proxy") == door
    assert own.containers("web") != web
    assert submit(shop, "greet", "you").json()["result"] == "Hi you"
    assert len(own.containers("worker-gpu")) == 1
    assert submit(shop, "invoice", INVOICE).status_code == 200
    assert submit(shop, "order", ORDER).status_code == 200


def test_what_breaks_the_schema_is_refused_at_the_submit(shop: httpx2.Client) -> None:
    answer = shop.post("/v1/operations/order/jobs", json={**ORDER, "lang": "fr"})
    assert answer.status_code == 422
    assert "/lang" in answer.text
