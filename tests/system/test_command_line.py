"""The command `tidegate` against the stack of `make run`: results, exit codes, and what a terminal shows."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.gateway import Gateway
from tests.support.processes import REPOSITORY, free_port
from tests.support.terminal import CTRL_C, Terminal
from tests.support.waiting import wait_until
from tidegate_client import Client, State

TIDEGATE = [sys.executable, "-m", "tidegate_client"]
SLEEP = '{"seconds": 60}'


def surroundings(url: str) -> dict[str, str]:
    """The environment of a shell in which a user works."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    return {**kept, "TIDEGATE_URL": url, "PYTHONPATH": str(REPOSITORY / "client")}


def tidegate(
    gateway: Gateway, *arguments: str, content: bytes = b"", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs the command as a script does."""
    return subprocess.run(
        [*TIDEGATE, *arguments],
        input=content,
        capture_output=True,
        env={**surroundings(gateway.url), **(environment or {})},
        timeout=60,
        check=False,
    )


def succeeded(gateway: Gateway, *arguments: str, content: bytes = b"") -> str:
    """Its standard output; it must have ended with 0."""
    done = tidegate(gateway, *arguments, content=content)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def state_of(gateway: Gateway, job_id: str) -> State:
    with Client(gateway.url) as client:
        return client.job(job_id).state


def test_a_result_comes_byte_for_byte_over_standard_output(gateway: Gateway) -> None:
    content = bytes(range(256))
    done = tidegate(gateway, "submit", "raw_echo", "-", "--content-type", "image/x-none", "--wait", content=content)
    assert (done.returncode, done.stdout, done.stderr) == (0, content, b"")


def test_a_file_goes_under_the_type_of_its_name_and_the_result_into_a_file(gateway: Gateway, tmp_path: Path) -> None:
    table, profile = tmp_path / "table.csv", tmp_path / "profile.json"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b"], [1, 2], [3, 4]])
    done = tidegate(gateway, "submit", "csv_profile", str(table), "--wait", "-o", str(profile))
    assert done.returncode == 0, done.stderr
    assert json.loads(profile.read_text())["rows"] == 2
    assert str(profile) in done.stderr.decode()


def test_submit_writes_the_id_and_the_other_commands_take_it(gateway: Gateway) -> None:
    job_id = succeeded(gateway, "submit", "echo", "-d", '{"a": 1}').strip()
    assert json.loads(succeeded(gateway, "wait", job_id)) == {"a": 1}
    assert json.loads(succeeded(gateway, "result", job_id)) == {"a": 1}
    assert job_id in succeeded(gateway, "status", job_id)
    document = json.loads(succeeded(gateway, "status", job_id, "--json"))
    assert (document["id"], document["state"], document["result"]) == (job_id, "succeeded", {"a": 1})
    listed = [line.split("\t") for line in succeeded(gateway, "list", "--limit", "1").splitlines()]
    assert [line[:4] for line in listed] == [[job_id, "echo", "succeeded", "100"]]
    (line,) = succeeded(gateway, "list", "--limit", "1", "--state", "succeeded", "--json").splitlines()
    assert json.loads(line)["id"] == job_id


def test_with_json_waiting_writes_the_whole_job(gateway: Gateway) -> None:
    document = json.loads(succeeded(gateway, "submit", "echo", "-d", "[1]", "--wait", "--json"))
    assert (document["state"], document["result"]) == ("succeeded", [1])


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["submit", "permanent", "-d", "1", "--wait"], 1, "refused by the operation 'permanent'"),
        (["submit", "echo", "-d", "1", "--timeout", "soon"], 2, "'soon' is not a duration"),
        (["submit", "echo", "no-such-file"], 2, "no-such-file"),
        (["submit", "echo", "-", "-d", "1"], 2, "give one of them"),
        (["submit", "echo", "-d", '{"a":'], 5, "400 malformed-body"),
        (["submit", "echo", "-d", "1", "-o", "/no/such/file"], 2, "no folder /no/such"),
        (["submit", "sleepy_io", "-d", SLEEP, "--timeout", "1s", "-w"], 3, "no result before the deadline"),
        (["submit", "no_such", "-d", "1"], 5, "no operation 'no_such'"),
        (["submit", "sleepy_io", "-d", '{"seconds": "x"}'], 5, "/seconds"),
        (["status", "no-id"], 5, "404"),
        (["status", "0199c5a0-0000-7000-8000-000000000000"], 5, "no job"),
        (["downstreams", "set", "sample", "--rate", "fast"], 5, "'fast' is not a rate"),
        (["downstreams", "set", "sample", "--burst", "many"], 2, "whole number"),
        (["downstreams", "set", "sample"], 2, "say what to change"),
    ],
)
def test_the_exit_code_tells_what_became_of_it(gateway: Gateway, arguments: list[str], code: int, told: str) -> None:
    done = tidegate(gateway, *arguments)
    assert (done.returncode, done.stdout) == (code, b""), done.stderr
    assert told in done.stderr.decode()


def test_a_job_that_goes_on_is_7_and_a_cancelled_one_4(gateway: Gateway) -> None:
    job_id = succeeded(gateway, "submit", "sleepy_io", "-d", SLEEP).strip()
    assert tidegate(gateway, "status", job_id).returncode == 7
    assert tidegate(gateway, "wait", job_id, "--timeout", "1").returncode == 7
    assert tidegate(gateway, "result", job_id).returncode == 7
    assert tidegate(gateway, "cancel", job_id).returncode == 0
    assert tidegate(gateway, "wait", job_id).returncode == 4
    retried = tidegate(gateway, "retry", job_id)
    assert retried.returncode == 0
    assert tidegate(gateway, "cancel", retried.stdout.decode().strip()).returncode == 0


def test_with_json_a_refusal_is_json_on_standard_error(gateway: Gateway) -> None:
    done = tidegate(gateway, "submit", "sleepy_io", "-d", "{}", "--json")
    assert done.returncode == 5
    error: dict[str, Any] = json.loads(done.stderr)["error"]
    assert (error["status"], error["errors"][0]["pointer"]) == (422, "/seconds")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_a_result_that_cannot_be_written_is_kept_and_8(gateway: Gateway) -> None:
    command = [*TIDEGATE, "submit", "echo", "-d", '"kept"', "--wait"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, env=surroundings(gateway.url), timeout=60, check=False
        )
    told = done.stderr.decode()
    assert done.returncode == 8, told
    assert "Traceback" not in told
    job_id = told.partition("tidegate result ")[2].split()[0]
    assert succeeded(gateway, "result", job_id) == '"kept"'


def test_nobody_there_is_6_and_soon(gateway: Gateway) -> None:
    done = tidegate(gateway, "list", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 6
    assert "no answer from" in done.stderr.decode()
    assert tidegate(gateway, "list", "--url", "localhost").returncode == 2


def test_an_operator_pauses_resumes_and_changes_a_lane(gateway: Gateway) -> None:
    def lane(*arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(succeeded(gateway, "downstreams", *arguments, "--json"))
        return found

    assert lane("pause", "sample")["paused"] is True
    assert "paused" in succeeded(gateway, "downstreams")
    assert "paused" in succeeded(gateway, "watch", "--once")
    assert lane("resume", "sample")["paused"] is False
    changed = lane("set", "sample", "--rate", "10/s", "--rate", "1000/m", "--concurrency", "unlimited", "--burst", "2")
    assert (changed["rate"], changed["concurrency"], changed["burst"]) == (["10/s", "1000/m"], None, 2)
    limits = [word for name in ("rate", "concurrency", "burst") for word in (f"--{name}", "declared")]
    assert lane("set", "sample", *limits)["changed"] == []


def test_a_limit_that_is_more_than_the_downstream_takes_is_told(gateway: Gateway) -> None:
    """The sample takes 20 in any second and 4 at once."""
    assert "lower than" not in succeeded(gateway, "downstreams", "show", "sample")
    with Client(gateway.url) as client:
        client.change_downstream("sample", rate="60/s", concurrency="unlimited")
        try:
            for job in client.submit_many("quote", [{"sku": "A", "quantity": 1}] * 90):
                assert job.wait().state is State.SUCCEEDED
            shown = succeeded(gateway, "downstreams", "show", "sample")
        finally:
            client.change_downstream("sample", rate=None, concurrency=None)
    told = re.search(
        r"^sample: refused (\d+) of (\d+) calls in the last minute: the limit is lower than set$", shown, re.MULTILINE
    )
    assert told, shown
    assert int(told[1]) >= 3
    assert int(told[2]) >= 90 + int(told[1]), "each refused call was made again"


def test_the_bar_shows_percent_and_note_and_the_result_follows(gateway: Gateway) -> None:
    command = [*TIDEGATE, "submit", "sleepy_io", "-d", '{"seconds": 3}', "--wait"]
    with Terminal(command, environment=surroundings(gateway.url)) as terminal:
        terminal.wait_for(r"running .* [1-9]\d?% sleeping")
        assert terminal.exit_code() == 0
        assert terminal.text.rstrip().endswith("1")


def test_the_bar_shows_the_place_in_the_queue_and_when_it_should_be_done(gateway: Gateway) -> None:
    with Client(gateway.url) as client:
        client.change_downstream("sample", rate="1/s")
        try:
            jobs = client.submit_many("quote", [{"sku": "A", "quantity": 1}] * 8)
            command = [*TIDEGATE, "submit", "quote", "-d", '{"sku": "Z", "quantity": 1}', "--wait"]
            with Terminal(command, environment=surroundings(gateway.url)) as terminal:
                terminal.wait_for(r"queued .*pace, \d ahead done in about \d+ s")
                client.change_downstream("sample", rate=None)
                terminal.wait_for(r'"sku": "Z"', timeout_seconds=60)
                assert terminal.exit_code() == 0
            assert [job.wait(60).state for job in jobs] == [State.SUCCEEDED] * 8
        finally:
            client.change_downstream("sample", rate=None)


def interrupted(gateway: Gateway, answer: str) -> tuple[str, int, str]:
    """Presses Ctrl-C under a running job and then `answer`: the job's id, the exit code, what was shown."""
    command = [*TIDEGATE, "submit", "sleepy_io", "-d", SLEEP, "--wait"]
    with Terminal(command, environment=surroundings(gateway.url)) as terminal:
        terminal.wait_for("running")
        terminal.press(CTRL_C)
        job_id = terminal.wait_for(r"Cancel job \S+\?").removeprefix("Cancel job ").removesuffix("?")
        terminal.press(answer)
        return job_id, terminal.exit_code(), terminal.text


def test_ctrl_c_offers_to_cancel_and_a_yes_cancels(gateway: Gateway) -> None:
    job_id, code, shown = interrupted(gateway, "y\n")
    assert code == 4
    assert "cancelled" in shown
    assert state_of(gateway, job_id) is State.CANCELLED


@pytest.mark.parametrize("answer", ["n\n", "\n", CTRL_C], ids=["no", "enter", "ctrl-c"])
def test_ctrl_c_and_no_yes_leave_the_job_alone(gateway: Gateway, answer: str) -> None:
    job_id, code, shown = interrupted(gateway, answer)
    assert code == 130
    assert f"tidegate wait {job_id}" in shown
    assert "Traceback" not in shown
    with Client(gateway.url) as client:
        job = client.job(job_id)
        assert job.state is State.RUNNING
        job.cancel()


def test_ctrl_c_and_w_goes_on_waiting(gateway: Gateway) -> None:
    command = [*TIDEGATE, "submit", "sleepy_io", "-d", '{"seconds": 4}', "--wait"]
    with Terminal(command, environment=surroundings(gateway.url)) as terminal:
        terminal.wait_for("running")
        terminal.press(CTRL_C)
        terminal.wait_for("Cancel job")
        terminal.press("w\n")
        assert terminal.exit_code() == 0
        assert terminal.text.rstrip().endswith("1")


def test_watch_shows_all_lanes_live_until_ctrl_c(gateway: Gateway) -> None:
    with (
        Client(gateway.url) as client,
        Terminal([*TIDEGATE, "watch", "--every", "0.3"], environment=surroundings(gateway.url)) as terminal,
    ):
        terminal.wait_for(r"sample +open +20/s +0 +0/4")
        client.submit_many("quote", [{"sku": "A", "quantity": 1}] * 40)
        terminal.wait_for(r"sample +open +20/s +\d+ +\d/4 +[1-9]\d?\.\d")
        client.change_downstream("sample", paused=True)
        terminal.wait_for(r"sample +paused")
        client.change_downstream("sample", paused=False)
        terminal.press(CTRL_C)
        assert terminal.exit_code() == 130
        assert "Traceback" not in terminal.text


def test_a_killed_gateway_is_waited_out(gateway: Gateway) -> None:
    command = [*TIDEGATE, "submit", "sleepy_io", "-d", '{"seconds": 3}', "--wait"]
    with Terminal(command, environment=surroundings(gateway.url)) as terminal:
        terminal.wait_for("running")
        old = gateway.pid("web")
        psutil.Process(old).kill()
        wait_until(lambda: gateway.pid("web") != old, description="web is started again", timeout_seconds=30)
        assert terminal.exit_code(timeout_seconds=60) == 0
