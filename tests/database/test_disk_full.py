"""SQLite on a disk that is full: 503 and nothing half-recorded, and on it goes when there is room again."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.support import sqlite
from tests.support.nodes import SchedulerNode, WorkerNode
from tests.support.waiting import wait_until
from tests.support.web import Web, assert_is_problem
from tidegate.database.schema import bodies

StartWorker = Callable[..., WorkerNode]
# SQLite's log grows to 4 MB before it is emptied into the database.
_DISK_BYTES = 16 * 1024**2
_BODY = b"x" * 100_000


class Disk(Protocol):
    """Where the database lies."""

    folder: Path

    def fill(self) -> None:
        """Leaves no room."""

    def clear(self) -> None:
        """Makes room again."""


class SmallDisk:
    """A tmpfs of 16 megabytes: the real thing, but only root may mount it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        options = ["-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tidegate-test", str(folder)]
        if os.geteuid() or not shutil.which("mount") or subprocess.run(["mount", *options], check=False).returncode:
            pytest.skip("a small disk can't be mounted here; the test of a file size limit stands in for it")

    def fill(self) -> None:
        with self._filler.open("wb", buffering=0) as filler:
            for size in (65536, 4096, 1):
                try:
                    while filler.write(b"\0" * size) == size:
                        pass
                except OSError:
                    continue

    def clear(self) -> None:
        self._filler.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Ends it, also when somebody still has a file open."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class FileSizeLimit:
    """No file of this process may grow beyond its size now: works for everybody, for this process only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._usual = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        longest = max(file.stat().st_size for file in self.folder.glob("tidegate.db*"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (longest, self._usual[1]))

    def clear(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._usual)


@pytest.fixture
def disk_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


@pytest.fixture
def small_disk(disk_folder: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(disk_folder)
    yield disk
    disk.unmount()


@pytest.fixture
def file_size_limit(disk_folder: Path) -> Iterator[FileSizeLimit]:
    limit = FileSizeLimit(disk_folder)
    yield limit
    limit.clear()


@pytest.fixture(params=["small_disk", "file_size_limit"])
def disk(request: pytest.FixtureRequest) -> Disk:
    found: Disk = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def face(tmp_path: Path, disk: Disk) -> Iterator[Web]:
    web = Web(tmp_path, sqlite.fresh_database(disk.folder))
    yield web
    web.close()


def rows(face: Web, table: Any) -> int:
    return len(face.database.fetch_all(table.select()))


def test_a_full_disk_is_a_503_that_records_nothing_and_room_opens_the_door_again(face: Web, disk: Disk) -> None:
    accepted = [face.accepted("raw_echo", _BODY)]
    disk.fill()
    answers = [face.submit("raw_echo", _BODY) for _ in range(200)]
    refused = [answer for answer in answers if answer.status_code != 202]
    # The last pages of the log may still take some.
    assert len(refused) > 100
    for answer in refused:
        assert_is_problem(answer, 503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
    accepted += [answer.get_json()["id"] for answer in answers if answer.status_code == 202]
    assert face.count() == rows(face, bodies) == len(accepted)
    assert face.read(accepted[0]).status_code == 202
    assert face.client.get("/health/live").status_code == 200

    disk.clear()
    accepted += [face.accepted("raw_echo", _BODY) for _ in range(5)]
    assert face.count() == rows(face, bodies) == len(accepted)
    with face.database.transaction() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


@pytest.fixture
def database_url(small_disk: SmallDisk) -> str:
    """What the workers of a test use lies on the small disk."""
    return sqlite.fresh_database(small_disk.folder)


@pytest.fixture
def stack_face(tmp_path: Path, database_url: str) -> Iterator[Web]:
    """The HTTP face beside the workers."""
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web", database_url)
    yield web
    web.close()


def test_an_outcome_that_found_no_room_is_stored_when_there_is_some(
    stack_face: Web, small_disk: SmallDisk, scheduler: SchedulerNode, start_worker: StartWorker
) -> None:
    face, worker = stack_face, start_worker("io")
    job_id = face.accepted("sleepy_io", b'{"seconds": 1.5}')
    wait_until(lambda: face.row(job_id).state == "running", description="it runs")
    small_disk.fill()
    wait_until(lambda: "trying on" in worker.logs(), description="its outcome finds no room")

    small_disk.clear()

    wait_until(lambda: face.row(job_id).state == "succeeded", description="it is stored", timeout_seconds=20)
    again = face.accepted()
    wait_until(lambda: face.row(again).state == "succeeded", description="jobs run as ever", timeout_seconds=20)
