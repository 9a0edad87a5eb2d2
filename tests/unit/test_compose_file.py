"""docker-compose.yml against the settings that there are."""

import re

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


def test_every_setting_reaches_the_containers_or_is_said_not_to() -> None:
    compose = (REPOSITORY / "docker-compose.yml").read_text()
    named = {name.removesuffix("_FILE").lower() for name in re.findall(rf"{PREFIX}([A-Z_]+)", compose)}

    assert set(Settings.model_fields) - named == NOT_PASSED_ON
