"""Many jobs cancelled and retried by the Python client and by the command line: the number first, then the deed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.support import sqlite
from tests.support.processes import REPOSITORY
from tests.support.web_server import WebServer
from tidegate_client import Client, Refused


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A web server beside which nothing runs, so that jobs stay queued."""
    folder = tmp_path_factory.mktemp("web")
    running = WebServer(folder, sqlite.fresh_database(folder))
    running.start()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _nothing_is_queued(server: WebServer) -> None:
    while server.client.post("/v1/jobs/cancel", json={"all": True}).json()["matched"]:
        pass  # so many at a time


def submit(server: WebServer, number: int) -> None:
    """So many jobs."""
    answer = server.client.post("/v1/operations/echo/jobs/bulk", json=[{"input": 1}] * number)
    assert answer.status_code == 202


def queued(server: WebServer) -> int:
    """How many wait."""
    counted = server.client.post("/v1/jobs/cancel", json={"state": "queued", "dry_run": True})
    return int(counted.json()["matched"])


def tidegate(
    server: WebServer, *arguments: str, typed: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command."""
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "client"), "TIDEGATE_URL": server.url}
    return subprocess.run(
        [sys.executable, "-m", "tidegate_client", *arguments],
        env=kept | environment, input=typed, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_the_client_reaches_all_of_them_in_several_requests(server: WebServer) -> None:
    for number in (1000, 1000, 300):
        submit(server, number)
    with Client(server.url) as client:
        assert client.cancel_jobs(operation="echo", dry_run=True).matched == 2300
        assert queued(server) == 2300
        counts = client.cancel_jobs(operation="echo")
    assert (counts.matched, counts.done, counts.asked_to_stop, counts.refusals) == (2300, 2300, 0, {})
    assert queued(server) == 0


def test_the_client_retries_those_that_ended_and_tells_why_others_were_not(server: WebServer) -> None:
    submit(server, 3)
    with Client(server.url) as client:
        before = datetime.now().astimezone()
        client.cancel_jobs(all=True)
        assert client.retry_jobs(state="queued").refusals == {}
        counts = client.retry_jobs(state="cancelled", created_before=before)
        assert counts.done == counts.matched >= 3
        assert client.retry_jobs(state="queued", operation="echo").refusals == {"job-not-final": counts.done}


def test_the_client_needs_a_filter_or_all(server: WebServer) -> None:
    submit(server, 1)
    with Client(server.url) as client:
        with pytest.raises(Refused) as refused:
            client.cancel_jobs()
        assert refused.value.status == 422
        with pytest.raises(Refused):
            client.retry_jobs(stat="queued")  # type: ignore[call-arg]  # as one may mistype it
        naive = datetime(2026, 11, 1)  # noqa: DTZ001 - that is the point
        for asked in (client.cancel_jobs, client.jobs):
            with pytest.raises(ValueError, match="time zone"):
                asked(created_after=naive)
    assert queued(server) == 1


def test_the_client_lists_by_every_filter(server: WebServer) -> None:
    submit(server, 3)
    with Client(server.url) as client:
        client.cancel_jobs(all=True)
        between = datetime.now().astimezone()
        submit(server, 2)
        waiting = list(client.jobs(created_after=between))
        assert [job.state for job in waiting] == ["queued", "queued"]
        (own,) = {job.seen.client for job in waiting}
        assert own is not None
        assert {job.id for job in client.jobs(client=own, downstream="echo", state="queued")} == {
            job.id for job in waiting
        }
        ended = list(client.jobs(error_code="cancelled", created_before=between))
        assert len(ended) >= 3
        assert {job.state for job in ended} == {"cancelled"}
        assert list(client.jobs(client="nobody")) == list(client.jobs(downstream="nothing")) == []
        with pytest.raises(Refused, match="created_before"):
            next(client.jobs(created_after=between, created_before=between))
        with pytest.raises(Refused, match="error_code"):
            next(client.jobs(error_code="nothing"))


def test_the_command_lists_cancels_and_retries_by_every_filter(server: WebServer) -> None:
    submit(server, 2)

    def listed(*options: str) -> list[str]:
        done = tidegate(server, "list", "--limit", "5000", *options)
        assert done.returncode == 0, done.stderr
        return [line.split("\t")[2] for line in done.stdout.splitlines()]

    assert listed("--state", "queued", "--downstream", "echo", "--client", "local") == ["queued"] * 2
    assert listed("--client", "nobody") == listed("--downstream", "nothing") == []
    assert listed("--created-after", "2d", "--state", "queued") == ["queued"] * 2
    assert listed("--created-before", "0.5h") == listed("--created-after", "2999-01-01") == []
    assert listed("--created-before", "2999-01-01T12:00+01:00", "--created-after", "1h", "--state", "queued")
    done = tidegate(server, "cancel", "--downstream", "echo", "--client", "local", "--created-after", "1h", "--yes")
    assert (done.returncode, done.stdout) == (0, "2 cancelled\n")
    assert set(listed("--error-code", "cancelled")) == {"cancelled"}
    none = ("--created-before", "1h", "--error-code", "cancelled", "--dry-run")
    assert tidegate(server, "retry", *none).stdout == "0 jobs\n"
    some = int(tidegate(server, "retry", "--error-code", "cancelled", "--dry-run", "--json").stdout.split()[1][:-1])
    assert some >= 2
    refused = tidegate(server, "list", "--error-code", "nothing")
    assert (refused.returncode, refused.stdout) == (5, "")
    assert "error_code: " in refused.stderr


@pytest.mark.parametrize(("zone", "has_begun"), [("Pacific/Kiritimati", True), ("Etc/GMT+12", False)])
def test_a_date_begins_where_the_command_is(server: WebServer, zone: str, *, has_begun: bool) -> None:
    """Today's of the one zone begins in the other 26 hours later."""
    submit(server, 1)
    today = datetime.now(ZoneInfo("Pacific/Kiritimati")).date().isoformat()
    done = tidegate(server, "list", "--state", "queued", "--created-after", today, TZ=zone)
    assert (done.returncode, bool(done.stdout)) == (0, has_begun)


def test_the_command_shows_the_number_and_asks(server: WebServer) -> None:
    submit(server, 3)
    done = tidegate(server, "cancel", "--state", "queued", typed="n\n")
    assert done.returncode == 1
    assert "Cancel 3 jobs? [y/N]" in done.stderr
    assert queued(server) == 3
    assert tidegate(server, "cancel", "--state", "queued").returncode == 1, "nobody is there to say yes"
    done = tidegate(server, "cancel", "--state", "queued", typed="y\n")
    assert (done.returncode, done.stdout) == (0, "3 cancelled\n")
    assert queued(server) == 0


def test_with_yes_it_does_not_ask_and_a_dry_run_only_counts(server: WebServer) -> None:
    submit(server, 2)
    done = tidegate(server, "cancel", "--operation", "echo", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "2 jobs\n")
    done = tidegate(server, "cancel", "--operation", "echo", "--dry-run", "--json")
    assert json.loads(done.stdout) == {"matched": 2}
    assert queued(server) == 2
    done = tidegate(server, "cancel", "--all", "--yes", "--json")
    assert json.loads(done.stdout) == {"matched": 2, "done": 2, "asked_to_stop": 0, "refusals": {}}
    done = tidegate(server, "retry", "--created-after", "2999-01-01T00:00+00:00", "--yes")
    assert (done.returncode, done.stdout) == (0, "0 jobs\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cancel"], "say which"),
        (["retry", "--yes"], "say which"),
        (["cancel", "0199c5a0-0000-7000-8000-000000000000", "--state", "queued"], "give one of them"),
        (["cancel", "--state", "done"], "Invalid value"),
        (["cancel", "--created-before", "yesterday"], "Invalid value"),
        (["cancel", "--created-after", "2026"], "Invalid value"),
        (["cancel", "--created-after", "2w"], "Invalid value"),
        (["cancel", "--created-after", "1.2.3h"], "Invalid value"),
        (["list", "--created-before", "99999999d"], "Invalid value"),
        (["list", "--created-after", "0001-01-01"], "Invalid value"),
    ],
    ids=str,
)
def test_what_is_not_clear_is_not_done(server: WebServer, arguments: list[str], told: str, tmp_path: Path) -> None:
    submit(server, 1)
    done = tidegate(server, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert queued(server) == 1


def test_one_job_is_cancelled_as_before(server: WebServer) -> None:
    job_id = server.submit()
    assert tidegate(server, "cancel", job_id).returncode == 0
    assert server.client.get(f"/v1/jobs/{job_id}").status_code == 410


def test_a_bulk_submit_writes_an_id_a_line_and_says_which_lines_were_refused(server: WebServer) -> None:
    done = tidegate(server, "submit", "echo", "-", "--bulk", typed='{"a": 1}\n\n[2]\n"three"\n')
    assert (done.returncode, done.stderr) == (0, "")
    ids = done.stdout.split()
    assert len(ids) == len(set(ids)) == 3
    assert all(server.client.get(f"/v1/jobs/{each}").status_code == 202 for each in ids)
    some = tidegate(server, "submit", "sleepy_io", "-", "--bulk", typed='{"seconds": 1}\n\n{"seconds": "x"}\n')
    assert (some.returncode, len(some.stdout.split())) == (5, 1)
    assert some.stderr.startswith("line 3: ")
    assert "/seconds" in some.stderr


def test_operations_are_listed_and_one_is_shown_with_its_input(server: WebServer) -> None:
    listed = [line.split("\t") for line in tidegate(server, "operations").stdout.splitlines()]
    assert ["echo", "echo"] in [line[:2] for line in listed]
    assert ["quote", "sample"] in [line[:2] for line in listed]
    shown = tidegate(server, "operations", "sleepy_io").stdout
    assert '"seconds"' in shown
    assert "passed on as it is" in tidegate(server, "operations", "quote").stdout
    assert json.loads(tidegate(server, "operations", "echo", "--json").stdout)["name"] == "echo"
    assert tidegate(server, "operations", "nothing").returncode == 5


def test_what_is_no_path_of_ours_is_told_in_our_words(server: WebServer) -> None:
    told = tidegate(server, "status", "no-id")
    assert (told.returncode, told.stderr) == (
        5,
        "there is no job 'no-id': a job's id is a UUID, as the answer to its submit has it (404 not-found)\n",
    )
    assert server.client.get("/v1/nothing").json()["detail"].startswith("nothing is at this path; /openapi.json")
    assert "the header Allow" in server.client.put("/v1/jobs").json()["detail"]
