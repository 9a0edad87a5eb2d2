"""What the web server's log lines are about."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.logs import JsonFormatter
from tests.support.processes import free_port
from tests.support.web import Web

TRACE = "0af7651916cd43dd8448eb211c80319c"
JOB_ID = "01890000-0000-7000-8000-000000000001"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Everything that is logged, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("web"))
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def test_a_line_in_a_request_is_about_its_job_and_trace_and_the_next_one_is_not(
    tmp_path: Path, lines: io.StringIO
) -> None:
    face = Web(tmp_path, f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing")
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "Authorization": "Bearer hunter2"}
    assert face.client.get(f"/v1/jobs/{JOB_ID}", headers=headers).status_code == 503
    assert face.client.get("/v1/jobs").status_code == 503
    face.close()

    first, second = [json.loads(line) for line in lines.getvalue().splitlines() if "can't be reached" in line]
    assert (first["job_id"], first["trace_id"]) == (JOB_ID, TRACE)
    assert second.keys().isdisjoint({"job_id", "trace_id"})
    assert "hunter2" not in lines.getvalue()
