"""docker-compose.yml against the settings that there are."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.settings import PREFIX, Settings
from tests.support.own_operations import TEMPLATE, with_a_queue
from tests.support.processes import REPOSITORY

# What a service of ours has without our asking for its settings: where it listens is the file's business.
PUBLISHED = {"host", "port"}
OF_WEB_ALONE = {"web_threads", "held_requests", "held_per_client", "hold_seconds", "idle_seconds"}
OURS = {"migrate", "web", "scheduler", "worker-io", "worker-cpu", "worker-webhooks", "flower"}
SEVERAL = {"web", "scheduler", "worker-io", "worker-cpu", "worker-webhooks"}


# What an operator may name another image by.
IMAGE_VARIABLES = {
    *("STACK_IMAGE", "STACK_PYTHON_IMAGE", "STACK_POSTGRES_IMAGE"),
    *("STACK_REDIS_IMAGE", "STACK_PROMETHEUS_IMAGE"),
}


def services() -> dict[str, dict[str, Any]]:
    """The services by their names, with what they share laid out."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    return found


def images() -> Iterator[tuple[str, str]]:
    """Each image of others, with the variable by which it is said."""
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    yield from re.findall(r"^ARG (\w+)=(.+)$", dockerfile, re.MULTILINE)
    for image in {service["image"] for service in services().values()}:
        (named,) = re.findall(r"^\$\{(\w+):-(.+)\}$", image)
        yield named


def test_every_image_of_others_has_an_exact_version() -> None:
    found = dict(images())
    assert found.keys() == IMAGE_VARIABLES
    assert found.pop("STACK_IMAGE") == "tidegate:local", "ours, built here"
    for image in found.values():
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z-]+)?", image), image
        # PostgreSQL alone has two numbers.
        assert image.startswith("postgres:") or re.search(r":v?\d+\.\d+\.\d+", image), image


def test_the_image_is_built_on_no_other_than_the_one_that_is_named() -> None:
    bases = re.findall(r"^FROM (\S+)", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    assert bases == ["${STACK_PYTHON_IMAGE}"] * 2


@pytest.mark.parametrize(
    ("secret", "holders"),
    [
        ("database_url", {"migrate", "web", "scheduler", "worker-io", "worker-cpu", "worker-webhooks", "flower"}),
        ("broker_url", {"migrate", "web", "scheduler", "worker-io", "worker-cpu", "worker-webhooks", "flower"}),
        ("webhook_key", {"web", "worker-webhooks"}),
        ("signing_key", {"web"}),
        ("postgres_password", {"postgres"}),
        ("redis.conf", {"redis"}),
        ("flower_auth", {"flower"}),
        ("metrics_key", {"prometheus"}),
    ],
)
def test_a_secret_is_with_the_services_that_need_it(secret: str, holders: set[str]) -> None:
    assert {name for name, service in services().items() if secret in service.get("secrets", [])} == holders


def test_what_operations_name_is_with_the_workers_of_operations_alone() -> None:
    operations = (REPOSITORY / "config" / "operations.toml").read_text()
    named = set(re.findall(r"\$\{(\w+)", operations)) - {"TIDEGATE_SAMPLE_PORT"}
    assert named == {"SAMPLE_HOST"}
    holders = {name for name, service in services().items() if named & set(service.get("environment", {}))}
    assert holders == {"worker-io", "worker-cpu"}


def is_passed(service: Mapping[str, Any], variable: str) -> bool:
    """Whether what the operator sets gets into the service's containers."""
    environment = service.get("environment", {})
    if variable not in environment:
        return False
    value = environment[variable]
    return value is None or str(value).startswith(f"${{{variable}")


def refused() -> set[str]:
    """The variables that `migrate` refuses by their names."""
    said = services()["migrate"]["environment"]["STACK_REFUSED"]
    found = re.findall(r"^\$\{(\w+):\+(\w+) is not for the stack: .+\}$", said, re.MULTILINE)
    assert len(found) == len(said.splitlines())
    assert all(first == second for first, second in found)
    return {first for first, _ in found}


@pytest.mark.parametrize("setting", Settings.model_fields)
def test_a_setting_has_its_effect_in_every_service_or_is_refused(setting: str) -> None:
    variable = PREFIX + setting.upper()
    having = {name for name, service in services().items() if is_passed(service, variable)}
    if setting in PUBLISHED:
        assert f"${{{variable}:-" in services()["proxy"]["ports"][0]
    elif setting == "operations_file":
        assert all(services()[name]["volumes"][0]["source"].startswith(f"${{{variable}:-") for name in OURS)
    else:
        assert having == (set() if variable in refused() else {"web"} if setting in OF_WEB_ALONE else OURS)


def test_nothing_is_refused_that_is_no_setting() -> None:
    assert refused() <= {PREFIX + setting.upper() for setting in Settings.model_fields}


def test_a_container_has_ten_seconds_beyond_the_grace_of_what_it_runs() -> None:
    """Docker reads two durations in a row as their sum."""
    assert {services()[name]["stop_grace_period"] for name in OURS} == {"${TIDEGATE_GRACE_SECONDS:-30}s10s"}


def test_how_many_there_are_of_a_service_is_a_setting() -> None:
    found = {
        name: service["deploy"]["replicas"] for name, service in services().items() if "replicas" in service["deploy"]
    }
    assert found == {name: f"${{STACK_{name.upper().replace('-', '_')}:-1}}" for name in SEVERAL}


def test_a_roll_takes_every_service_of_our_image() -> None:
    script = (REPOSITORY / "config" / "stack" / "roll.sh").read_text()
    (default,) = re.findall(r"\$\{\*:-([^}]+)\}", script)
    ours = {name for name, service in services().items() if service["image"].startswith("${STACK_IMAGE:-")}
    workers = {name for name in ours if name.startswith("worker-")}
    assert "grep '^worker-'" in script
    assert {*default.replace("$workers", " ".join(workers)).split(), "migrate"} == ours


def test_the_template_has_a_worker_of_a_queue_of_ones_own_behind_a_number_sign(tmp_path: Path) -> None:
    acme = shutil.copytree(TEMPLATE, tmp_path / "acme")
    with_a_queue(acme)
    worker = yaml.safe_load((acme / "stack.yaml").read_text().replace("!override", ""))["services"]["worker-gpu"]
    assert worker["extends"]["service"] in services()
    if not shutil.which("docker"):
        pytest.skip("there is no docker compose here")
    (tmp_path / "tidegate").symlink_to(REPOSITORY)

    done = subprocess.run(
        ["docker", "compose", "config", "--format", "json"], cwd=acme, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    own, cpu = (json.loads(done.stdout)["services"][name] for name in ("worker-gpu", "worker-cpu"))
    assert own.pop("command") == ["python", "-m", "tasks.worker", "gpu"]
    assert own.pop("deploy")["replicas"] == 1
    assert own == {key: value for key, value in cpu.items() if key not in {"command", "deploy"}}


def test_a_worker_of_a_queue_of_ones_own_is_what_the_docs_lay_over_the_stack(tmp_path: Path) -> None:
    """Compose itself reads it, where it is installed; that needs no engine."""
    page = (REPOSITORY / "docs" / "operating.md").read_text()
    (block,) = [text for text in re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if "gpu" in text]
    (tmp_path / "override.yml").write_text(block)
    if not shutil.which("docker"):
        pytest.skip("there is no docker compose here")
    files = ["-f", "docker-compose.yml", "-f", str(tmp_path / "override.yml")]

    done = subprocess.run(
        ["docker", "compose", "--project-directory", ".", *files, "config", "--format", "json"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    own, cpu = (json.loads(done.stdout)["services"][name] for name in ("worker-gpu", "worker-cpu"))
    assert own["command"] == ["python", "-m", "tasks.worker", "gpu"]
    same = cpu.keys() - {"command", "deploy"}
    assert {key: own[key] for key in same} == {key: cpu[key] for key in same}
    assert own["deploy"]["resources"]["limits"].keys() == {"memory", "pids"}
    assert own["deploy"]["replicas"] == 1
