"""docker-compose.yml against the settings that there are."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from config.settings import PREFIX, Settings
from tests.support.processes import REPOSITORY

# What means nothing in a container, or is decided by the file itself.
NOT_PASSED_ON = {
    "data",  # the image says it
    "operations_file",  # is mounted
    "shared_environment",  # each service names its own
    "web_workers",  # --scale web=N
    "io_workers",  # --scale worker-io=N
    "worker_nice",  # between containers it means nothing
    "sample_port",  # the sample has a container of its own
}


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


def test_every_setting_reaches_the_containers_or_is_said_not_to() -> None:
    compose = (REPOSITORY / "docker-compose.yml").read_text()
    written = re.findall(rf"{PREFIX}([A-Z_]+)", compose)
    named = {known.lower() for name in written for known in (name, name.removesuffix("_FILE"))}

    assert set(Settings.model_fields) - named == NOT_PASSED_ON
