"""The stack over the volumes of the first release."""

import httpx2

from tests.support import first_release
from tests.support.compose import Compose
from tests.support.processes import REPOSITORY
from tests.support.waiting import wait_until


def test_the_rows_of_the_first_release_are_migrated_and_its_jobs_go_on(stack: Compose) -> None:
    stack.one_of_each()
    script = (REPOSITORY / "tests" / "support" / "first_release.py").read_text()
    stack.run("run", "--rm", "-T", "migrate", "python", "-", stdin=script)
    assert stack.sql("SELECT version_num FROM alembic_version;") == [first_release.FIRST]

    stack.up()

    newest = max(file.name[:4] for file in (REPOSITORY / "migrations" / "versions").glob("[0-9]*.py"))
    assert stack.sql("SELECT version_num FROM alembic_version;") == [newest]
    with stack.client(first_release.SECRET) as client:
        expected = {**first_release.STATUSES, first_release.QUEUED: 200, first_release.WAITING: 200}
        wait_until(lambda: statuses(client) == expected, description="all have ended as they must", timeout_seconds=30)
        assert client.get(f"/v1/jobs/{first_release.SUCCEEDED}/result").content == first_release.RESULT
        assert client.get(f"/v1/jobs/{first_release.QUEUED}").json()["result"]["total"] == 954.84
    stack.down(volumes=True)


def statuses(client: httpx2.Client) -> dict[str, int]:
    """What each of its jobs answers now."""
    return {job_id: client.get(f"/v1/jobs/{job_id}").status_code for job_id in first_release.STATUSES}
