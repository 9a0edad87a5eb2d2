"""Jobs on real workers: how each kind ends, and what becomes of them when something is killed, lost or doubled.

Rows of `jobs` and `attempts` are looked at beside the answers: a job that ended well for the wrong reason fails here.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from pytest_celery import CeleryTestSetup
from sqlalchemy import select

from tests.support.databases import POSTGRESQL
from tests.support.nodes import SchedulerNode, WorkerNode
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.support.web import Web
from tidegate.database.schema import attempts, jobs
from tidegate.dispatch.release import CLAIM_WITHIN

StartWorker = Callable[..., WorkerNode]


@pytest.fixture
def face(tmp_path: Path, database_url: str, broker: Valkey) -> Iterator[Web]:
    """The HTTP face beside the workers."""
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web", database_url, broker_url=broker.url)
    yield web
    web.close()


@pytest.fixture
def io_worker(start_worker: StartWorker) -> WorkerNode:
    """A worker of the queue io: eight threads."""
    return start_worker("io")


def wait_for_state(face: Web, job_id: str, state: str, *, timeout_seconds: float = 20) -> Any:
    """Waits until the row is in this state and returns it; fails at once when it ended in another."""

    def row() -> Any:
        found = face.row(job_id)
        is_final = found.finished_at is not None
        assert found.state == state or not is_final, f"it {found.state}: {found.error}"
        return found if found.state == state else None

    return wait_until(row, description=f"the job is {state}", timeout_seconds=timeout_seconds)


def attempts_of(face: Web, job_id: str) -> list[Any]:
    """Its attempts' rows, first to last."""
    return list(face.database.fetch_all(select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.fence)))


def outcomes(face: Web, job_id: str) -> list[str | None]:
    """How its attempts ended."""
    return [attempt.outcome for attempt in attempts_of(face, job_id)]


def error_of(face: Web, job_id: str) -> dict[str, Any]:
    """`error` as a caller reads it."""
    error: dict[str, Any] = face.read(job_id).get_json()["error"]
    return error


@pytest.mark.both_databases("one whole way over each, by processes")
def test_each_kind_of_io_job_ends_as_it_must(face: Web, scheduler: SchedulerNode, io_worker: WorkerNode) -> None:
    content = b'{"n": 123456789012345678901234567890, "t": "\\u0000\xc3\xbc"}'
    echo = face.accepted("echo", content)
    raw = face.submit("raw_echo", b"\0\xff", "application/x-odd").get_json()["id"]
    raising = face.accepted("raising", b"null")
    permanent = face.accepted("permanent", b"null")
    unserialisable = face.accepted("unserialisable", b"null")

    wait_for_state(face, echo, "succeeded")
    assert face.read(echo).get_json()["result"] == {"n": 123456789012345678901234567890, "t": "\0ü"}
    wait_for_state(face, raw, "succeeded")
    answer = face.client.get(f"/v1/jobs/{raw}/result")
    assert (answer.data, answer.content_type) == (b"\0\xff", "application/x-odd")
    assert face.read(raw).get_json()["result"] is None

    row = wait_for_state(face, raising, "failed")
    assert (row.attempt, outcomes(face, raising)) == (2, ["error", "error"])
    assert face.read(raising).status_code == 502
    assert error_of(face, raising)["code"] == "attempts_exhausted"
    assert "raised by the operation 'raising'" in error_of(face, raising)["message"]
    assert "Traceback" not in face.read(raising).get_data(as_text=True)
    assert "Traceback" in io_worker.logs()

    for job_id, words in ((permanent, "refused by the operation"), (unserialisable, "can't hold")):
        row = wait_for_state(face, job_id, "failed")
        assert (row.attempt, outcomes(face, job_id)) == (1, ["failed"])
        assert error_of(face, job_id)["code"] == "operation_error"
        assert words in error_of(face, job_id)["message"]


def test_coroutines_of_a_worker_share_a_loop_end_in_time_and_are_cancelled(
    face: Web, scheduler: SchedulerNode, io_worker: WorkerNode, tmp_path: Path
) -> None:
    sleepers = [face.accepted("sleepy_async", b'{"seconds": 0.5}') for _ in range(6)]
    late = face.accepted("ends_in_time_async", b'{"seconds": 60}')
    marker = tmp_path / "begun"
    called_off = face.accepted("until_cancelled_async", json.dumps({"path": str(marker)}).encode())

    for job_id in sleepers:
        wait_for_state(face, job_id, "succeeded")
        assert face.read(job_id).get_json()["result"] == [1, 1], "one loop, at the first attempt"
    wait_for_state(face, late, "failed")
    assert error_of(face, late)["message"] == "the attempt took longer than its timeout"

    wait_until(marker.exists, description="it waits")
    assert face.client.post(f"/v1/jobs/{called_off}/cancel").status_code == 202
    wait_for_state(face, called_off, "cancelled")
    assert marker.with_suffix(".cancelled").exists()
    assert outcomes(face, called_off) == ["stopped"]


def test_progress_is_seen_from_outside_and_never_goes_down(
    face: Web, scheduler: SchedulerNode, io_worker: WorkerNode
) -> None:
    job_id = face.accepted("sleepy_io", b'{"seconds": 1.5}')
    seen: list[tuple[int, int]] = []

    def is_done() -> bool:
        document = face.read(job_id).get_json()
        progress = document["progress"]
        seen.append((progress["percent"], progress["done"] or 0))
        if document["state"] == "running" and progress["done"]:
            assert (progress["total"], progress["note"]) == (30, "sleeping")
        return bool(document["state"] == "succeeded")

    wait_until(is_done, description="the job succeeded")
    percents = [percent for percent, _ in seen]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert len({percent for percent in percents if 0 < percent < 100}) >= 3
    assert max(percents[:-1]) <= 99


def test_a_job_that_computes_for_ever_is_ended_by_the_hard_limit_and_says_so(
    face: Web, scheduler: SchedulerNode, cpu_worker: WorkerNode
) -> None:
    job_id = face.accepted("runs_for_ever_cpu", b"null")
    row = wait_for_state(face, job_id, "failed")
    assert row.attempt == 1
    assert error_of(face, job_id) == {
        "code": "operation_error",
        "message": "the attempt was ended by its hard time limit",
    }
    wait_for_state(face, face.accepted("sleepy_cpu", b'{"seconds": 0}'), "succeeded")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_operation_may_have_a_pool_of_processes(
    face: Web, scheduler: SchedulerNode, cpu_worker: WorkerNode, method: str
) -> None:
    job_id = face.accepted("process_pool_cpu", b'{"method": "%s"}' % method.encode())
    wait_for_state(face, job_id, "succeeded")
    assert face.read(job_id).get_json()["result"] == [1, 2, 3]


@pytest.mark.usefixtures("scheduler")
@pytest.mark.parametrize(
    ("operation", "state"),
    [
        ("leaves_children_cpu", "succeeded"),
        ("runs_for_ever_with_children_cpu", "failed"),
        ("kills_its_process_with_children", "succeeded"),
    ],
)
def test_no_process_outlives_the_attempt_that_started_it(
    face: Web, cpu_worker: WorkerNode, tmp_path: Path, operation: str, state: str
) -> None:
    file = tmp_path / "pids"
    job_id = face.accepted(operation, json.dumps({"path": str(file)}).encode())
    wait_until(file.exists, description="its processes run")
    numbers = set(file.read_text().split())
    below = psutil.Process(cpu_worker.container.pid).children(recursive=True)
    started = [process for process in below if _number_at_home(process) in numbers]
    wait_for_state(face, job_id, state, timeout_seconds=30)
    wait_until(lambda: not any(each.is_running() for each in started), description="its processes are gone")


def _number_at_home(process: psutil.Process) -> str:
    """The process's number as it knows it itself: in a container it has another one than here."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return str(process.pid)
    return status.partition("NSpid:")[2].partition("\n")[0].split()[-1]


def test_a_job_that_kills_its_process_fails_after_three_losses_and_hurts_no_other(
    face: Web, scheduler: SchedulerNode, cpu_worker: WorkerNode
) -> None:
    poison = face.accepted("kills_its_process", b"null")
    row = wait_for_state(face, poison, "failed", timeout_seconds=30)
    assert (row.losses, outcomes(face, poison)) == (3, ["lost", "lost", "lost"])
    assert face.read(poison).status_code == 502
    assert error_of(face, poison)["code"] == "attempts_exhausted"
    other = face.accepted("sleepy_cpu", b'{"seconds": 0}')
    assert wait_for_state(face, other, "succeeded").losses == 0


def test_a_thread_that_does_not_look_up_holds_its_place_and_its_late_result_is_dropped(
    face: Web, scheduler: SchedulerNode, io_worker: WorkerNode
) -> None:
    job_id = face.accepted("ignores_stop_io", b'{"seconds": 2.5}', Job_Timeout="1")
    wait_until(lambda: face.row(job_id).state == "running", description="it runs")
    wait_until(lambda: face.read(job_id).status_code == 504, description="its deadline has passed")
    (held,) = attempts_of(face, job_id)
    assert held.ended_at is None
    assert held.place_until > held.slot_at
    (held,) = wait_until(
        lambda: [each for each in attempts_of(face, job_id) if each.ended_at], description="its place is free"
    )
    assert held.outcome == "late"
    row = face.row(job_id)
    assert (row.state, row.percent) == ("expired", 0)
    assert face.read(job_id).status_code == 504
    wait_until(lambda: "too late, another result stands" in io_worker.logs(), description="it is logged")


def test_a_job_whose_worker_is_killed_succeeds_as_attempt_2_after_the_lease(
    face: Web, scheduler: SchedulerNode, start_worker: StartWorker
) -> None:
    doomed = start_worker("io", name="io-doomed")
    job_id = face.accepted("sleepy_io", b'{"seconds": 1.5}')
    wait_until(lambda: face.row(job_id).percent > 0, description="it is under way")
    doomed.kill()
    start_worker("io", name="io-2")

    row = wait_for_state(face, job_id, "succeeded")

    assert (row.attempt, row.losses) == (2, 1)
    assert face.read(job_id).get_json()["result"] == 2
    assert outcomes(face, job_id)[-1] == "succeeded"


def test_a_frozen_worker_that_wakes_up_late_can_not_write_any_more(
    face: Web, scheduler: SchedulerNode, start_worker: StartWorker
) -> None:
    frozen = start_worker("io", name="io-frozen")
    job_id = face.accepted("sleepy_io", b'{"seconds": 1.5}')
    wait_until(lambda: face.row(job_id).percent > 0, description="it is under way")
    frozen.freeze()
    start_worker("io", name="io-2")
    row = wait_for_state(face, job_id, "succeeded")
    assert face.read(job_id).get_json()["result"] == 2

    frozen.thaw()
    wait_until(lambda: f"job {job_id}: attempt 1" in frozen.logs(), description="the thawed worker gave up")
    assert face.row(job_id) == row
    assert face.read(job_id).get_json()["result"] == 2


def test_while_the_broker_is_dead_jobs_are_taken_and_they_run_when_it_is_back(
    face: Web, scheduler: SchedulerNode, io_worker: WorkerNode, broker: Valkey
) -> None:
    wait_for_state(face, face.accepted(), "succeeded")
    io_worker.freeze()  # else it would say that it lost its broker, and nothing would be released to it
    broker.kill()
    began = time.monotonic()
    # Of the first the scheduler can't know whether its message was sent: the broker died under an open connection.
    first = face.accepted()
    assert time.monotonic() - began < 1
    wait_until(lambda: "uncertain whether 1 message" in scheduler.logs(), description="the scheduler noticed")
    io_worker.thaw()
    others = [face.accepted() for _ in range(5)]
    expiring = face.accepted("echo", b"1", Job_Timeout="1")
    wait_until(lambda: face.row(expiring).state == "expired", description="the sweep goes on", timeout_seconds=6)
    # Nothing more is released into the void.
    assert {(face.row(job_id).state, face.row(job_id).fence) for job_id in others} == {("queued", 0)}

    broker.start()
    back_at = time.monotonic()

    for job_id in others:
        assert wait_for_state(face, job_id, "succeeded").attempt == 1
    assert time.monotonic() - back_at < 8
    assert wait_for_state(face, first, "succeeded").attempt == 1


def test_a_second_message_of_the_same_release_does_nothing(
    face: Web, scheduler: SchedulerNode, celery_setup: CeleryTestSetup
) -> None:
    job_id = face.accepted("sleepy_io", b'{"seconds": 0.5}')
    wait_until(lambda: face.row(job_id).state == "running", description="it runs")
    release = face.row(job_id).fence
    for fence in (release, release, release - 1, release + 1):
        celery_setup.app.send_task("tasks.run.run_job", (job_id, fence), queue="io", task_id=job_id)
    worker = celery_setup.worker
    wait_until(lambda: worker.logs().count("no longer stands") >= 4, description="each message was dropped")
    row = wait_for_state(face, job_id, "succeeded")
    celery_setup.app.send_task("tasks.run.run_job", (job_id, release), queue="io", task_id=job_id)
    wait_until(lambda: worker.logs().count("no longer stands") >= 5, description="the last message was dropped")
    assert (row.attempt, outcomes(face, job_id)) == (1, ["succeeded"])
    assert face.row(job_id) == row


def test_a_message_that_makes_no_sense_does_not_hurt_the_worker(
    face: Web, scheduler: SchedulerNode, celery_setup: CeleryTestSetup
) -> None:
    unknown = "0199c5a0-0000-7000-8000-000000000000"
    senseless: list[tuple[Any, ...]] = [("x", 1), (unknown, 1), ("", None), (), (None, "'"), ([], {})]
    for arguments in senseless:
        celery_setup.app.send_task("tasks.run.run_job", arguments, queue="io")
    celery_setup.app.send_task("tasks.run.unknown", (), queue="io")
    wait_for_state(face, face.accepted(), "succeeded")


def test_a_message_that_was_lost_on_its_way_is_sent_again_within_seconds(
    face: Web, scheduler: SchedulerNode, io_worker: WorkerNode, broker: Valkey
) -> None:
    with broker.client() as client:

        def sent() -> int:
            calls: int = client.info("commandstats").get("cmdstat_lpush", {}).get("calls", 0)
            return calls

        before = sent()
        io_worker.freeze()
        job_id = face.accepted()
        wait_until(lambda: sent() > before, description="its message is sent")
        client.flushall()
    # What the broker had already handed to the frozen worker dies with it.
    io_worker.kill()
    io_worker.restart()
    there_at = datetime.now(UTC)  # SQLite's clock is ours

    row = wait_for_state(face, job_id, "succeeded", timeout_seconds=30)

    assert (row.attempt, outcomes(face, job_id)) == (1, ["unclaimed", "succeeded"])
    first, second = attempts_of(face, job_id)
    # It is missed after so long, and once more after so long if there was no worker then: on a busy machine a new one
    # is late.
    was_away = there_at > first.released_at + CLAIM_WITHIN
    assert second.released_at - (there_at if was_away else first.released_at) < timedelta(seconds=8)


def test_a_stopped_worker_hands_a_long_job_back_and_another_runs_it_at_once(
    face: Web, scheduler: SchedulerNode, start_worker: StartWorker, default_worker_env: dict[str, str]
) -> None:
    default_worker_env["TIDEGATE_GRACE_SECONDS"] = "1"
    leaving = start_worker("io", name="io-leaving")
    job_id = face.accepted("sleepy_io", b'{"seconds": 60}')
    wait_until(lambda: face.row(job_id).percent > 0, description="it is under way")
    start_worker("io", name="io-2")

    leaving.kill(signal.SIGTERM)
    again = wait_until(
        lambda: row if (row := face.row(job_id)).state == "running" and row.fence > 1 else None,
        description="it runs again",
        timeout_seconds=20,
    )

    # Given back at the end of the grace: neither an attempt nor a loss was spent, and no lease had to run out.
    assert (again.attempt, again.losses, again.fence) == (1, 0, 2)
    assert outcomes(face, job_id) == ["handed back", None]
    wait_until(lambda: leaving.container.status == "exited", description="the worker is gone")
    face.client.post(f"/v1/jobs/{job_id}/cancel")
    wait_for_state(face, job_id, "cancelled")


def test_a_stopped_cpu_worker_leaves_no_process_and_no_job_behind(
    face: Web, scheduler: SchedulerNode, start_worker: StartWorker, default_worker_env: dict[str, str]
) -> None:
    default_worker_env["TIDEGATE_GRACE_SECONDS"] = "1"
    leaving = start_worker("cpu", name="cpu-leaving")
    file = Path(default_worker_env["TIDEGATE_DATA"]) / "pids"  # some of them are in sessions of their own
    job_id = face.accepted("sleeps_with_children_cpu", json.dumps({"path": str(file)}).encode())
    wait_until(lambda: face.row(job_id).percent > 0, description="it is under way")
    children = psutil.Process(leaving.container.pid).children(recursive=True)

    leaving.kill(signal.SIGTERM)
    wait_until(lambda: leaving.container.status == "exited", description="the worker is gone")

    row = face.row(job_id)
    assert (row.state, row.attempt, row.losses, row.lease_until) == ("queued", 0, 0, None)
    wait_until(lambda: not any(child.is_running() for child in children), description="its children are gone")


def test_a_job_that_ends_within_the_grace_ends_where_it_began(
    face: Web, scheduler: SchedulerNode, io_worker: WorkerNode
) -> None:
    job_id = face.accepted("sleepy_io", b'{"seconds": 1}')
    wait_until(lambda: face.row(job_id).state == "running", description="it runs")
    io_worker.kill(signal.SIGTERM)
    row = wait_for_state(face, job_id, "succeeded")
    assert (row.attempt, outcomes(face, job_id)) == (1, ["succeeded"])
    wait_until(lambda: io_worker.container.status == "exited", description="the worker is gone")


def test_a_cancelled_job_is_never_run(face: Web, scheduler: SchedulerNode, start_worker: StartWorker) -> None:
    job_id = face.accepted("sleepy_io", b'{"seconds": 0}')
    assert face.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    start_worker("io")
    wait_for_state(face, face.accepted(), "succeeded")
    row = face.row(job_id)
    assert (row.state, row.attempt) == ("cancelled", 0)
    assert attempts_of(face, job_id) == []


def _has_progress(face: Web, job_id: str) -> bool:
    return bool(face.row(job_id).percent > 0)


def test_cancelling_stops_a_running_job_at_its_next_progress(
    face: Web, scheduler: SchedulerNode, io_worker: WorkerNode, cpu_worker: WorkerNode
) -> None:
    running = [face.accepted(operation, b'{"seconds": 60}') for operation in ("sleepy_io", "sleepy_cpu")]
    for job_id in running:
        wait_until(partial(_has_progress, face, job_id), description="it is under way")
        assert face.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
        asked_at = time.monotonic()
        wait_for_state(face, job_id, "cancelled")
        assert time.monotonic() - asked_at < 5
        assert face.read(job_id).status_code == 410
        assert attempts_of(face, job_id)[0].ended_at is not None


def test_the_celery_task_has_the_id_of_its_job(
    face: Web, scheduler: SchedulerNode, celery_setup: CeleryTestSetup
) -> None:
    job_id = face.accepted("sleepy_io", b'{"seconds": 20}')
    wait_until(lambda: face.row(job_id).state == "running", description="it runs")

    def active() -> list[dict[str, Any]]:
        answer = celery_setup.app.control.inspect(timeout=1).active() or {}
        return [task for tasks in answer.values() for task in tasks]

    (task,) = wait_until(active, description="the worker tells its active tasks")
    assert (task["id"], task["name"]) == (job_id, "tasks.run.run_job")
    assert task["args"][0] == job_id
    face.client.post(f"/v1/jobs/{job_id}/cancel")


@pytest.mark.parametrize("database_url", [POSTGRESQL], indirect=True)
def test_two_schedulers_and_two_workers_run_each_of_many_jobs_once(
    face: Web,
    scheduler: SchedulerNode,
    start_worker: StartWorker,
    start_scheduler: Callable[[], SchedulerNode],
) -> None:
    start_scheduler()
    for number in (1, 2):
        start_worker("io", name=f"io-{number}", concurrency=4)
    accepted = [face.accepted("echo", str(number)) for number in range(60)]
    for number, job_id in enumerate(accepted):
        row = wait_for_state(face, job_id, "succeeded", timeout_seconds=30)
        assert (row.attempt, row.fence) == (1, 1)
        assert face.read(job_id).get_json()["result"] == number
    with face.database.transaction() as connection:
        assert len(connection.execute(select(attempts)).all()) == len(accepted)
        assert {row.state for row in connection.execute(select(jobs)).all()} == {"succeeded"}
