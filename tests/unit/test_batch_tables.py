"""`[operations.NAME.batch]`: what it means, and how each mistake in it, or in what it does not go with, is told."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from config.operations_file import read_operations_file
from config.registry import read_declared
from config.settings import Settings
from tests.unit.test_modules import settings_of
from tidegate.operations.batch_formats import BatchFormat, HttpBatch
from tidegate.operations.http_operation import HttpOperation

MEGABYTE = 1024 * 1024
BATCH = '[operations.embed.batch]\nmax = 10\nformat = "array"\n'
DECLARED = f'[operations.embed]\nurl = "http://models.internal/embed"\n{BATCH}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "operations.toml"


def read(file: Path, text: str) -> HttpOperation:
    file.write_text(text)
    found = read_operations_file(file, max_result=1000)
    assert found.faults == ()
    (made,) = found.operations
    return made


def faults(file: Path, text: str) -> Sequence[str]:
    file.write_text(text)
    return read_operations_file(file, max_result=1000).faults


def test_a_batch_needs_its_size_and_format(file: Path) -> None:
    made = read(file, DECLARED)

    assert made.batch == HttpBatch(max=10, format=BatchFormat.ARRAY, linger=timedelta(0), max_bytes=4 * MEGABYTE)
    assert made.max_body == 4 * MEGABYTE, "what would fit into no call is refused at the submit"
    assert read(file, DECLARED.partition("[operations.embed.batch]")[0]).max_body == 20 * MEGABYTE


@pytest.mark.parametrize(
    ("text", "milliseconds"), [('"0ms"', 0), ("0", 0), ('"20ms"', 20), ("0.5", 500), ('"1m"', 60_000)]
)
def test_a_job_may_wait_for_company(file: Path, text: str, milliseconds: int) -> None:
    made = read(file, f"{DECLARED}linger = {text}")

    assert made.batch is not None
    assert made.batch.linger == timedelta(milliseconds=milliseconds)


@pytest.mark.parametrize(
    ("text", "size"), [('"512KB"', 512 * 1024), ('"1 MB"', MEGABYTE), ("1000", 1000), ('"64MB"', 64 * MEGABYTE)]
)
def test_a_size_is_a_number_of_bytes_or_a_text_with_its_unit(file: Path, text: str, size: int) -> None:
    made = read(file, f"{DECLARED}max_bytes = {text}")

    assert made.batch is not None
    assert (made.batch.max_bytes, made.max_body) == (size, min(size, 20 * MEGABYTE))


@pytest.mark.parametrize(
    ("lines", "key", "told"),
    [
        ("", "batch.max", "it is missing"),
        ("max = 10", "batch.format", "it is missing"),
        ("max = 1", "batch.max", "greater than or equal to 2"),
        ("max = 1001", "batch.max", "less than or equal to 1000"),
        ('max = "10"', "batch.max", "write a whole number"),
        ("max = true", "batch.max", "write a whole number"),
        ('format = "list"', "batch.format", "'array', 'results' or 'sqs'"),
        ("format = 1", "batch.format", "'array', 'results' or 'sqs'"),
        ('linger = "soon"', "batch.linger", "is not a duration"),
        ('linger = "2m"', "batch.linger", "it is longer than 1m, the most"),
        ("linger = false", "batch.linger", "is not a duration"),
        ('linger = "-1s"', "batch.linger", "is not a duration"),
        ('max_bytes = "4"', "batch.max_bytes", 'a number of bytes, or a text such as "4MB"'),
        ('max_bytes = "4 GB"', "batch.max_bytes", 'a number of bytes, or a text such as "4MB"'),
        ("max_bytes = 1.5", "batch.max_bytes", 'a number of bytes, or a text such as "4MB"'),
        ("max_bytes = true", "batch.max_bytes", 'a number of bytes, or a text such as "4MB"'),
        ("max_bytes = 0", "batch.max_bytes", "greater than or equal to 1"),
        ('max_bytes = "65MB"', "batch.max_bytes", "less than or equal to 67108864"),
        ("size = 10", "batch.size", "there is no such key; there are max, format, linger, max_bytes"),
        ("maxx = 10", "batch.maxx", "there is no such key (did you mean 'max'?)"),
    ],
)
def test_each_bad_value_is_told_with_file_and_line(file: Path, lines: str, key: str, told: str) -> None:
    found = faults(file, f'[operations.embed]\nurl = "http://h/"\n[operations.embed.batch]\n{lines}\n')

    assert any(told in fault and f": operations.embed.{key}: " in fault for fault in found), found
    line = 4 if lines and "missing" not in told else 3
    assert any(fault.startswith(f"{file}:{line}: operations.embed.{key}:") for fault in found), found


def test_a_batch_that_is_no_table_is_told(file: Path) -> None:
    (fault,) = faults(file, '[operations.embed]\nurl = "http://h/"\nbatch = 10\n')

    assert fault == f"{file}:3: operations.embed.batch: write a table"


@pytest.mark.parametrize(
    ("lines", "key", "told"),
    [
        ('method = "GET"', "method", "a batch stands in a body, and GET has none: write POST, PUT or PATCH"),
        ('method = "DELETE"', "method", "DELETE has none"),
        ('method = "HEAD"', "method", "HEAD has none"),
        ("body = true", "body", "it does not go with batch"),
        ("body = false", "body", "it does not go with batch"),
        ('body = "json:/payload"', "body", "it does not go with batch"),
        ('pass_headers = ["X-Customer"]', "pass_headers", "they do not go with batch"),
        ("poll = true", "poll", "it does not go with batch"),
        ("max_body = 4194305", "max_body", "such an input would fit into no call: batch.max_bytes is 4194304"),
    ],
)
def test_what_is_of_one_job_does_not_go_with_a_batch(file: Path, lines: str, key: str, told: str) -> None:
    text = f'[operations.embed]\nurl = "http://h/"\n{lines}\n{BATCH}'

    (fault,) = faults(file, text)

    assert fault.startswith(f"{file}:3: operations.embed.{key}: ")
    assert told in fault
    assert faults(file, text.replace(BATCH, "")) == ()


def test_a_place_in_the_url_does_not_go_with_a_batch(file: Path) -> None:
    (fault,) = faults(file, DECLARED.replace("/embed", "/{customer}?lang={lang}"))

    assert fault.startswith(f"{file}:2: operations.embed.url: {{customer}} and {{lang}}: a batch is one call")
    (fault,) = faults(file, DECLARED.replace("http:", "ftp:"))
    assert "http:// or https://" in fault


@pytest.mark.parametrize(
    "lines",
    [
        'each = { order = "strict" }',
        'partitions = { bigco = { order = "strict" } }',
        'partition = "header"\neach.order = "strict"',
    ],
)
def test_strict_order_does_not_go_with_a_batch(file: Path, lines: str) -> None:
    (fault,) = faults(file, f"{DECLARED}[downstreams.embed]\n{lines}\n")

    assert fault.startswith(f'{file}:3: operations.embed.batch: its downstream has order = "strict"')


def test_nobody_waits_for_company_where_a_rate_paces_the_calls(file: Path) -> None:
    (fault,) = faults(file, f'{DECLARED}linger = "20ms"\n[downstreams.embed]\nrate = "10/s"\n')

    assert fault.startswith(f"{file}:6: operations.embed.batch.linger: its downstream has a rate, so nobody waits")
    assert not faults(file, f'{DECLARED}linger = "20ms"\n[downstreams.embed]\nconcurrency = 8\n')
    assert not faults(file, f'{DECLARED}linger = "0ms"\n[downstreams.embed]\nrate = "10/s"\n')


def test_a_function_in_a_lane_that_batches_do_not_go_with_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_batches.py").write_text(
        "from datetime import timedelta\n\n"
        "from tidegate.operations import Batch, operation\n\n\n"
        '@operation(batch=Batch(max=10, linger=timedelta(seconds=1)), downstream="crm")\n'
        "def embed(texts: list[str]) -> list[int]:\n"
        "    return [len(text) for text in texts]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings: Settings = settings_of(
        tmp_path, '[downstreams.crm]\nrate = "10/s"\neach = { order = "strict" }\n', "acme_batches"
    )

    strict, linger = read_declared(settings, None).faults

    place = f"{tmp_path}/acme_batches.py:6: operation embed: "
    assert strict.startswith(f'{place}batch: its downstream has order = "strict"')
    assert linger.startswith(f"{place}batch.linger: its downstream has a rate")
