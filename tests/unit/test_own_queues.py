"""Queues of one's own: how they are declared, which names they can have, and who starts their workers."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.check import check
from config.operations_file import read_operations_file
from config.settings import Settings, settings
from embedded.stack import programs
from embedded.worker_set import WorkerSet
from tasks.worker.__main__ import main
from tasks.worker.process import _queue_fault
from tests.support.processes import REPOSITORY
from tidegate.operations.queues import OwnQueue, Pool
from tidegate.operations.registry import Registry
from tidegate.operations.worker_range import WorkerRange

MINIMAL = '[operations.quote]\nurl = "http://127.0.0.1/quote"\n'
GPU = '[queues.gpu]\npool = "processes"\n'
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes the operations file, which the settings name."""
    file = tmp_path / "operations.toml"
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("TIDEGATE_OPERATIONS_FILE", str(file))
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path / "data"))

    def write(text: str) -> Path:
        file.write_text(text)
        return file

    settings.cache_clear()
    yield write
    settings.cache_clear()


def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: str, kind: str = "def") -> None:
    """A module with one operation, which the settings name."""
    name = f"own_{tmp_path.name.rpartition('-')[2]}"
    text = "from tidegate.operations import operation\n\n\n"
    (tmp_path / f"{name}.py").write_text(f"{text}@operation({declared})\n{kind} work(params: int) -> int: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("TIDEGATE_OPERATIONS", name)


def test_a_queue_is_declared_with_its_workers(write: Write) -> None:
    file = write(
        f'{GPU}concurrency = 4\nworkers = "1-3"\n[queues.slow]\npool = "threads"\n'
        '[queues.two]\npool = "threads"\nworkers = 2\n[queues.elsewhere]\npool = "threads"\nworkers = 0\n'
    )

    assert read_operations_file(file, max_result=1).queues == (
        OwnQueue(name="gpu", pool=Pool.PROCESSES, concurrency=4, workers=WorkerRange(lowest=1, highest=3)),
        OwnQueue(name="slow", pool=Pool.THREADS, concurrency=1, workers=WorkerRange(lowest=1, highest=1)),
        OwnQueue(name="two", pool=Pool.THREADS, concurrency=1, workers=WorkerRange(lowest=2, highest=2)),
        OwnQueue(name="elsewhere", pool=Pool.THREADS, concurrency=1, workers=None),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[queues.gpu]\n", "1: queues.gpu.pool: it is missing"),
        ('[queues.gpu]\npool = "prefork"\n', "2: queues.gpu.pool: Input should be 'threads' or 'processes'"),
        (f"{GPU}concurrency = 0\n", "3: queues.gpu.concurrency: Input should be greater than or equal to 1"),
        (f'{GPU}workers = "4-1"\n', "3: queues.gpu.workers: 4-1: from 1 to 1,000 workers, the smaller number first"),
        (f'{GPU}workers = "0-2"\n', "3: queues.gpu.workers: 0-2: from 1 to 1,000 workers, the smaller number first"),
        (f"{GPU}workers = -1\n", "3: queues.gpu.workers: '-1' is no number of workers; write"),
        (f"{GPU}workers = true\n", "3: queues.gpu.workers: write a number of workers, or a range such as"),
        (f"{GPU}workers = 1.5\n", "3: queues.gpu.workers: write a number of workers, or a range such as"),
        (f"{GPU}worker = 1\n", "3: queues.gpu.worker: there is no such key (did you mean 'workers'?)"),
        ('[queues.cpu]\npool = "processes"\n', "1: queues.cpu: 'cpu' is built in, and settings say how many it has"),
        ('[queues.webhooks]\npool = "threads"\n', "1: queues.webhooks: 'webhooks' is the queue of webhooks"),
        ('[queues.GPU]\npool = "threads"\n', "1: queues.GPU: 'GPU' can't be a queue: the name of a queue is made of"),
        ('[queues.a_b]\npool = "threads"\n', "1: queues.a_b: 'a_b' can't be a queue"),
        ("[queue.gpu]\n", "1: queue: there is no such table (did you mean 'queues'?)"),
        ("queues = 3\n", "1: queues: write [queues.name] for each queue"),
        (
            f'{MINIMAL}queue = "gpuu"\n{GPU}',
            "3: operations.quote.queue: 'gpuu' is declared nowhere (did you mean 'gpu'",
        ),
        (f'{MINIMAL}queue = "slow"\n', "operations.quote.queue: 'slow' is declared nowhere; write [queues.slow]"),
        (
            f'{MINIMAL}queue = "cpu"\n',
            "3: operations.quote.queue: 'cpu' is for Python functions that compute",
        ),
        (f'{MINIMAL}queue = "CPU"\n', "3: operations.quote.queue: 'CPU' can't be a queue"),
    ],
)
def test_each_fault_is_told_with_file_and_line(write: Write, text: str, told: str) -> None:
    file = write(text)

    (fault,) = read_operations_file(file, max_result=1).faults

    assert fault.startswith(f"{file}:")
    assert told in fault


def test_an_http_operation_may_have_one(write: Write) -> None:
    file = write(f'{MINIMAL}queue = "slow"\n[operations.other]\nurl = "http://h/"\n[queues.slow]\npool = "threads"\n')

    found = read_operations_file(file, max_result=1)

    assert found.faults == ()
    assert [each.queue for each in found.operations] == ["slow", "io"]


def test_check_says_what_is_not_as_usual(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    own = f'{MINIMAL}queue = "slow"\npoll = true\n[operations.other]\nurl = "http://h/"\n'
    assert check(write(f'{own}[queues.slow]\npool = "threads"\n'), with_secrets=False) == 0
    told = capsys.readouterr().out
    assert ", polled, queue slow, downstream quote\n" in told
    assert "  other: POST http://h/, downstream other\n" in told


def test_check_names_the_function_whose_queue_nobody_declares(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module(tmp_path, monkeypatch, 'queue="gpu"')
    file = write(f'{MINIMAL}[queues.gpus]\npool = "threads"\n')

    assert check() == 2
    (fault,) = capsys.readouterr().err.splitlines()
    assert ".py:4: operation work: its queue 'gpu' is declared nowhere (did you mean 'gpus'?); " in fault
    assert fault.endswith(f"; write [queues.gpu] into {file}")

    write(f"{MINIMAL}{GPU}")
    assert check() == 0
    assert ".py:4, queue gpu, downstream work\n" in capsys.readouterr().out


def test_a_coroutine_function_is_for_threads(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module(tmp_path, monkeypatch, 'queue="gpu"', "async def")

    write(f"{MINIMAL}{GPU}")
    assert check() == 2
    (fault,) = capsys.readouterr().err.splitlines()
    assert ".py:4: operation work: async def is for what waits" in fault
    assert "a process of the gpu queue runs one function at a time" in fault

    write(f'{MINIMAL}[queues.gpu]\npool = "threads"\n')
    assert check() == 0


def test_no_worker_is_started_for_a_queue_that_nobody_declares(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(f"{MINIMAL}{GPU}")
    monkeypatch.setattr(sys, "argv", ["tasks.worker", "gpuu"])

    assert main() == 2
    assert capsys.readouterr().err == f"{file} declares no queue 'gpuu'; write [queues.gpuu] into it\n"


@pytest.mark.parametrize(
    ("queues", "is_prefork", "fault"),
    [
        ({"gpu"}, True, None),
        ({"gpu"}, False, "the queue gpu is declared with processes: start its worker with --pool prefork"),
        ({"gpuu"}, True, "start a worker with exactly one of -Q io, -Q cpu, -Q gpu, -Q webhooks, not gpuu"),
        ({"gpu", "io"}, True, "start a worker with exactly one of -Q io, -Q cpu, -Q gpu, -Q webhooks, not gpu, io"),
        ({"io"}, True, None),
    ],
)
def test_a_worker_serves_one_queue_as_it_is_declared(queues: set[str], *, is_prefork: bool, fault: str | None) -> None:
    known = Registry.of([], (), [OwnQueue(name="gpu", pool=Pool.PROCESSES, concurrency=1, workers=None)])

    assert _queue_fault(queues, known, is_prefork=is_prefork) == fault


def test_make_run_starts_the_workers_that_are_declared(write: Write, tmp_path: Path) -> None:
    file = write(
        f"{MINIMAL}{GPU}concurrency = 3\nworkers = 2\n"
        '[queues.slow]\npool = "threads"\n[queues.elsewhere]\npool = "threads"\nworkers = 0\n'
    )
    current = Settings(data=tmp_path, operations_file=file, broker_url="redis://127.0.0.1:1")

    *_, last = programs(current)

    sets = {each.queue: each for each in last if isinstance(each, WorkerSet)}
    started = {queue: each.range.lowest for queue, each in sets.items()}
    assert started == {"io": 1, "cpu": 1, "gpu": 2, "slow": 1, "webhooks": 1}
    commands = {
        name: " ".join(each.program(name).arguments)
        for each in sets.values()
        for name in map(each.name, range(1, each.range.lowest + 1))
    }
    assert "--pool prefork --concurrency 3 -Q gpu -n gpu-2@tidegate" in commands["gpu-2"]
    assert "--pool threads --concurrency 1 -Q slow -n slow-1@tidegate" in commands["slow-1"]
