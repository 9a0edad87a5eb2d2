"""The stack of docker-compose.yml as a user starts it, scaled out, killed container by container, stopped and upgraded.

The tests of this file stand on one another's stack, in this order.
"""

import json
import re

import httpx2

from tests.stack.jobs import accepted, assert_nothing_is_lost, final, pause
from tests.support.compose import IMAGE, SECRETS, Compose, await_health, docker, frozen, inspect, kill, started_at
from tests.support.persistent_client import PersistentClient
from tests.support.waiting import wait_until

PUBLISHED = {"proxy", "flower"}
# In a second: burst 1, 20 a second, each up to 20 ms late.
ALLOWED = 21


def sample_counts(stack: Compose) -> dict[str, int]:
    """What the sample downstream took and refused since its last start."""
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8001/stats').read().decode())"
    counts: dict[str, int] = json.loads(stack.run("exec", "-T", "sample", "python", "-c", fetch))
    return counts


def most_calls_in_a_second(stack: Compose) -> int:
    """How many calls to the sample downstream started within any second, by the workers' own records."""
    (most,) = stack.sql(
        "SELECT max(calls) FROM (SELECT count(*) OVER ("
        "ORDER BY call_started_at RANGE BETWEEN CURRENT ROW AND 999999 FOLLOWING) AS calls"
        " FROM attempts WHERE downstream = 'sample' AND call_started_at IS NOT NULL) AS counted;"
    )
    return int(most)


def test_every_service_is_bounded_hardened_and_watched(running: Compose) -> None:
    services = running.config()["services"]
    for name, service in services.items():
        assert service["deploy"]["resources"]["limits"].keys() >= {"memory", "pids"}, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["stop_grace_period"] == "40s", name  # of ours, 10 s beyond their grace
        assert re.search(r":[^:]+$", service["image"]), name
        if name != "migrate":
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"], name
    ports = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert ports.keys() == PUBLISHED
    assert {port["host_ip"] for each in ports.values() for port in each} == {"127.0.0.1"}


def test_no_process_is_root_and_no_root_file_system_can_be_written(running: Compose) -> None:
    for container in running.containers():
        name = inspect(container)["Name"]
        assert docker("exec", container, "id", "-u").strip() != "0", name
        tried = docker("exec", container, "sh", "-c", "touch /here 2>/dev/null; echo $?").strip()
        assert tried != "0", name


def test_no_secret_is_in_the_image_nor_shown_by_the_engine(running: Compose) -> None:
    secrets = {word for name in SECRETS for word in re.findall("[0-9a-f]{48}", running.secret(name))}
    assert len(secrets) == 3
    shown = "".join(docker("inspect", container) for container in running.containers())
    shown += docker("inspect", IMAGE) + docker("history", "--no-trunc", IMAGE)
    shown += running.run("config") + running.run("logs", "--no-color")
    assert not [secret for secret in secrets if secret in shown]
    look = "ls -A /app; find / -xdev -name '.env*' 2>/dev/null || true"
    files = docker("run", "--rm", "--network=none", IMAGE, "sh", "-c", look)
    assert set(files.split()) == {"config", "demo", "migrations", "tasks", "tidegate", "webapp"}


def test_the_passwords_are_made_once_and_for_their_owner(stack: Compose) -> None:
    before = {name: stack.secret(name) for name in SECRETS}
    assert stack.make_secrets() == ""
    assert {name: stack.secret(name) for name in SECRETS} == before
    assert stack.secrets.stat().st_mode & 0o777 == 0o700


def test_a_quote_from_submit_to_result(running: Compose, operator: httpx2.Client) -> None:
    url = accepted(operator)
    assert url.startswith(f"{running.url}/v1/jobs/")

    answer = final(operator, url)

    assert (answer.status_code, answer.json()["result"]["sku"]) == (200, "A-100")
    assert httpx2.get(url, trust_env=False).status_code == 401


def test_a_job_that_computes(operator: httpx2.Client) -> None:
    rows = b"a,b\n" + b"1,x\n" * 1000
    answer = operator.post("/v1/operations/csv_profile/jobs", content=rows, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 202, answer.text
    assert final(operator, answer.headers["Location"]).status_code == 200


def test_flower_knows_the_job_under_its_id_and_asks_for_a_password(running: Compose, operator: httpx2.Client) -> None:
    url = accepted(operator)
    final(operator, url)
    job_id = url.rpartition("/")[2]
    user, _, password = running.secret("flower_auth").partition(":")
    with httpx2.Client(base_url=running.flower_url, trust_env=False, timeout=10) as flower:
        assert flower.get(f"/api/task/info/{job_id}").status_code == 401
        assert flower.get("/").status_code == 401

        def task() -> dict[str, object]:
            answer = flower.get(f"/api/task/info/{job_id}", auth=(user, password))
            found: dict[str, object] = answer.json() if answer.status_code == 200 else {}
            return found if found.get("state") == "SUCCESS" else {}

        known = wait_until(task, description="Flower has seen its end")
        assert (known["uuid"], known["name"]) == (job_id, "tasks.run.run_job")
        # Sent, received and started: the events are on from the scheduler to the worker.
        assert all(known[instant] for instant in ("sent", "received", "started"))
        workers = flower.get("/api/workers?refresh=1", auth=(user, password)).json()
        lengths = flower.get("/api/queues/length", auth=(user, password))
    assert {name.partition("@")[0] for name in workers} == {"io", "cpu", "webhooks"}
    assert lengths.status_code == 200, lengths.text
    assert {each["name"] for each in lengths.json()["active_queues"]} == {"io", "cpu", "webhooks"}


def test_scaled_out_the_limits_stay_exact(running: Compose, operator: httpx2.Client) -> None:
    running.up(web=2, scheduler=2, worker_io=3)
    before = sample_counts(running)
    urls = [accepted(operator, f"S-{number}") for number in range(100)]

    assert {final(operator, url).status_code for url in urls} == {200}

    counts = sample_counts(running)
    assert counts["accepted"] - before["accepted"] == len(urls)
    # 4 at once is what it takes; it refuses, and counts, what goes beyond.
    assert counts["refused_concurrency"] == 0, counts
    assert most_calls_in_a_second(running) <= ALLOWED
    by_worker = running.sql(
        "SELECT count(DISTINCT worker) FROM attempts WHERE worker IN (SELECT id FROM workers WHERE queue = 'io');"
    )
    assert by_worker == ["3"]


def test_each_container_killed_under_load_comes_back_and_nothing_is_lost(
    running: Compose, operator: httpx2.Client
) -> None:
    doomed = running.containers()
    lasting = running.config()["services"].keys() - {"migrate"}
    services = running.config()["services"]
    assert len(doomed) == sum(services[service]["deploy"].get("replicas", 1) for service in lasting)
    with PersistentClient(operator, per_second=8) as load:
        for container in doomed:
            before = {container: started_at(container)}
            kill(container)
            await_health([container], since=before)
    assert_nothing_is_lost(operator, load)
    assert len(load.accepted) >= len(doomed)
    assert running.sql("SELECT count(*) FROM jobs WHERE finished_at IS NULL OR lease_until IS NOT NULL;") == ["0"]
    assert most_calls_in_a_second(running) <= ALLOWED


def test_a_worker_that_is_the_first_process_of_its_container_ends_after_its_grace(
    running: Compose, operator: httpx2.Client
) -> None:
    """As orchestrators start it that have no init; the engine would kill it ten seconds later."""
    running.set("GRACE_SECONDS", "2")
    with running.overridden("services: {worker-io: {init: false}}\n"):
        running.run("up", "--detach", "--no-build", "--no-deps", "--wait", "worker-io")
        workers = running.containers("worker-io")
        with frozen(running.containers("sample")):
            url = accepted(operator)
            wait_until(lambda: operator.get(url).json()["state"] == "running", description="its call is open")
            docker("stop", *workers)
            assert {inspect(worker)["State"]["ExitCode"] for worker in workers} == {0}
            assert operator.get(url).json()["state"] == "queued"
    running.forget("GRACE_SECONDS")
    await_health(running.containers("sample"))
    running.up()
    assert final(operator, url).status_code == 200


def test_what_waits_when_the_stack_is_taken_down_goes_on_when_it_is_back(
    running: Compose, operator: httpx2.Client
) -> None:
    pause(operator, paused=True)
    waiting = [accepted(operator, f"W-{number}") for number in range(20)]

    running.down(volumes=False)
    assert running.containers() == []
    running.up()

    assert {operator.get(url).status_code for url in waiting} == {202}
    pause(operator, paused=False)
    assert {final(operator, url).status_code for url in waiting} == {200}
