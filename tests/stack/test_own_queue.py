"""A queue of one's own in the stack, as docs/operating.md says: a table of the operations file, a service, a roll."""

import re
from pathlib import Path

import httpx2
import yaml

from tests.stack.conftest import patient_operations
from tests.stack.jobs import final
from tests.support.compose import Compose
from tests.support.processes import REPOSITORY

QUEUE = """
[queues.gpu]
pool = "processes"
concurrency = 1

[operations.own_quote]
downstream = "sample"
queue = "gpu"
url = "http://${SAMPLE_HOST:-127.0.0.1}:8001/quote"
"""


def documented_service() -> str:
    """The override of the docs, but for the device, which no test has."""
    page = (REPOSITORY / "docs" / "operating.md").read_text()
    (block,) = [text for text in re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if "gpu" in text]
    document = yaml.safe_load(block)
    del document["services"]["worker-gpu"]["deploy"]["resources"]["reservations"]
    return str(yaml.safe_dump(document))


def test_a_service_of_an_override_serves_a_queue_of_ones_own(
    running: Compose, operator: httpx2.Client, tmp_path: Path
) -> None:
    file = patient_operations(tmp_path)
    file.write_text(file.read_text() + QUEUE)
    running.set("OPERATIONS_FILE", str(file))
    with running.overridden(documented_service()):
        running.roll()

        answer = operator.post("/v1/operations/own_quote/jobs", json={"sku": "A-100", "quantity": 3})
        assert answer.status_code == 202, answer.text
        assert final(operator, answer.headers["Location"]).status_code == 200
        assert operator.get("/health/ready").json()["workers"]["gpu"] == 1
        assert len(running.containers("worker-gpu")) == 1
        running.run("rm", "--stop", "--force", "worker-gpu")
