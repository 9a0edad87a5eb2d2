"""The operations file: what it means, and how each mistake in it is told."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from config.operations_file import expander, read_operations_file
from config.registry import load_registry, load_registry_with_secrets
from config.settings import Settings
from tidegate.errors import ConfigurationError
from tidegate.http_operation import HttpOperation
from tidegate.operations import Limits

MINIMAL = '[operations.quote]\nurl = "http://127.0.0.1/quote"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "operations.toml"


def read(file: Path, text: str) -> tuple[list[HttpOperation], list[Limits]]:
    file.write_text(text)
    return read_operations_file(file, max_result=1000)


def test_an_operation_needs_only_a_url(file: Path) -> None:
    ((quote,), limits) = read(file, MINIMAL)

    assert (quote.name, quote.downstream, quote.method, quote.headers) == ("quote", "quote", "POST", {})
    assert (quote.timeout, quote.attempt_timeout) == (timedelta(minutes=2), timedelta(seconds=10))
    assert (quote.retry.attempts, quote.retry.delay, quote.retry.max_delay) == (
        5,
        timedelta(seconds=1),
        timedelta(seconds=30),
    )
    assert quote.retry.on == {408, 425, 429, 500, 502, 503, 504}
    assert quote.max_result == 1000
    assert limits == []


def test_the_example_of_the_contract_is_read(file: Path) -> None:
    ((geocode,), (limits,)) = read(
        file,
        """
        [downstreams.geocoder]
        rate = ["10/s", "10000/d"]
        burst = 2
        concurrency = 8

        [operations.geocode]
        downstream = "geocoder"
        url = "http://geocoder.internal/v1/lookup"
        method = "PUT"
        headers = { Authorization = "Bearer ${GEOCODER_KEY}" }
        timeout = "2m"
        attempt_timeout = "10s"
        retry = { attempts = 5, delay = "1s", max_delay = "30s", on = [408, 500] }
        admission = true
        """,
    )

    assert (limits.name, limits.rates, limits.burst, limits.concurrency) == ("geocoder", ("10/s", "10000/d"), 2, 8)
    assert geocode.downstream == "geocoder"
    assert geocode.headers == {"Authorization": "Bearer ${GEOCODER_KEY}"}, "a secret is put in by workers only"
    assert geocode.retry.on == {408, 500}


@pytest.mark.parametrize(
    ("line", "key", "told"),
    [
        ('url = "ftp://host/"', "url", "http:// or https://"),
        ('url = "/relative"', "url", "http:// or https://"),
        ('url = "http://host/a b"', "url", "http:// or https://"),
        ("url = 5", "url", "string"),
        ('method = "FETCH"', "method", "GET"),
        ('timeout = "soon"', "timeout", "is not a duration"),
        ("timeout = 0", "timeout", "out of range"),
        ("timeout = true", "timeout", "duration"),
        ('attempt_timeout = "-1s"', "attempt_timeout", "is not a duration"),
        ("retry = { attempts = 0 }", "retry", "greater than or equal to 1"),
        ("retry = { on = [99] }", "retry", "100"),
        ("retry = { tries = 1 }", "retry", "Extra inputs are not permitted"),
        ('downstream = "Not A Name"', "downstream", "pattern"),
        ("max_body = -1", "max_body", "greater than or equal to 0"),
        ('colour = "red"', "colour", "Extra inputs are not permitted"),
        ('headers = { "X Y" = "z" }', "headers", "can't be set here"),
        ('headers = { Host = "z" }', "headers", "can't be set here"),
        ('headers = { content-LENGTH = "1" }', "headers", "can't be set here"),
        ('headers = { Idempotency-Key = "1" }', "headers", "can't be set here"),
        ('headers = { X-A = "a\\r\\nX-B: b" }', "headers", "one line of ASCII"),
        ('headers = { X-A = "\\u0001" }', "headers", "one line of ASCII"),
        ('headers = { X-A = " a" }', "headers", "without spaces around it"),
        ('headers = { X-A = "é" }', "headers", "one line of ASCII"),
        ("headers = { X-A = 1 }", "headers", "string"),
    ],
)
def test_each_bad_value_is_told_with_file_and_line(file: Path, line: str, key: str, told: str) -> None:
    url = [] if line.startswith("url") else ['url = "http://127.0.0.1/"']
    lines = ["# a comment", "", "[operations.other]", 'url = "http://127.0.0.1/"', "[operations.quote]", *url, line]

    with pytest.raises(ConfigurationError) as error:
        read(file, "\n".join(lines))

    assert str(error.value).startswith(f"{file}:{len(lines)}: operations.quote.{key}")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('rate = "50/w"', "is not a rate"),
        ('rate = ["50/s", "0/d"]', "is not a rate"),
        ("rate = 50", "tuple"),
        ("burst = 0", "greater than or equal to 1"),
        ("concurrency = 0", "greater than or equal to 1"),
        ('concurrency = "many"', "integer"),
        ("limit = 5", "Extra inputs are not permitted"),
    ],
)
def test_each_bad_limit_is_told_with_file_and_line(file: Path, line: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read(file, f"[downstreams.slow]\n{line}\n")

    assert str(error.value).startswith(f"{file}:2: downstreams.slow.")
    assert told in str(error.value)


def test_every_bad_value_is_told_at_once(file: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        read(file, '[downstreams.a]\nburst = 0\n[operations.b]\nurl = "x"\n[operations.c]\n')

    assert [line.partition(": ")[0] for line in str(error.value).splitlines()] == [
        f"{file}:2",
        f"{file}:4",
        f"{file}:5",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[operations.quote", "end of document"),
        ("[operation.quote]\n", "Extra inputs"),
        ('["operations"."Bad Name"]\nurl = "http://h/"', "pattern"),
        ("[operations.a]\nurl = 'http://h/'\n[operations.a]\n", ":3: "),
    ],
)
def test_a_file_of_another_shape_is_refused_by_name(file: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=str(file)) as error:
        read(file, text)

    assert told in str(error.value)


def test_a_file_that_is_not_text_is_refused_by_name(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigurationError, match=f"{file}: it is not UTF-8"):
        read_operations_file(file, max_result=1)


def test_a_file_that_is_not_there_is_told_with_its_setting(tmp_path: Path) -> None:
    for missing in (tmp_path / "nowhere.toml", tmp_path):
        with pytest.raises(ConfigurationError, match=f"TIDEGATE_OPERATIONS_FILE: {missing} can't be read"):
            read_operations_file(missing, max_result=1)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("${KEY}", "secret"),
        ("Bearer ${KEY}!", "Bearer secret!"),
        ("${KEY}${KEY}", "secretsecret"),
        ("${OTHER:-8001}", "8001"),
        ("${OTHER:-}", ""),
        ("${KEY:-default}", "secret"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("$KEY and $${KEY", "$KEY and $${KEY"),
        ("${NESTED}", "${KEY}"),
    ],
)
def test_names_in_a_template_are_replaced_once(template: str, value: str) -> None:
    assert expander({"KEY": "secret", "EMPTY": "", "NESTED": "${KEY}"})(template) == value


def test_a_missing_name_is_told_and_no_value_is() -> None:
    with pytest.raises(ConfigurationError, match=r"\$\{MISSING\} is used") as error:
        expander({"KEY": "secret"})("${KEY} ${MISSING}")

    assert "secret" not in str(error.value)


def test_a_value_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")

    assert expander({"KEY_FILE": str(tmp_path / "key")})("Bearer ${KEY:-none}") == "Bearer secret"


def registry_settings(file: Path, text: str, **values: Any) -> Settings:
    file.write_text(text)
    return Settings(operations_file=file, _env_file=None, **values)


SECRET = '[operations.quote]\nurl = "http://${SITE:-h}/"\nheaders = { Authorization = "Bearer ${QUOTE_KEY}" }\n'


def test_only_workers_need_the_secrets(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUOTE_KEY", raising=False)
    current = registry_settings(file, SECRET)

    assert "quote" in load_registry(current).operations
    with pytest.raises(ConfigurationError, match=r"operation quote: \$\{QUOTE_KEY\}"):
        load_registry_with_secrets(current)


@pytest.mark.parametrize(
    ("name", "value"),
    [("QUOTE_KEY", "se\r\ncret"), ("QUOTE_KEY", "s\xe9cret"), ("SITE", "u:p#secret@h"), ("SITE", "a b")],
)
def test_a_secret_that_cannot_be_sent_stops_the_start_and_is_not_told(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("QUOTE_KEY", "fine")
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match="operation quote") as error:
        load_registry_with_secrets(registry_settings(file, SECRET))

    assert "cret" not in str(error.value)


def test_python_operations_stand_beside_those_of_the_file(file: Path) -> None:
    registry = load_registry(registry_settings(file, MINIMAL, operations="tests.support.operations"))

    assert {"quote", "echo", "csv_profile"} <= set(registry.operations)
    assert set(registry.downstreams) >= {"quote", "echo"}


def test_a_name_that_stands_in_a_file_and_in_a_module_is_refused(file: Path) -> None:
    current = registry_settings(file, MINIMAL.replace("quote]", "echo]"), operations="tests.support.operations")

    with pytest.raises(ConfigurationError, match="two operations are named 'echo'"):
        load_registry(current)


def test_an_unknown_module_is_told_with_its_setting(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"TIDEGATE_OPERATIONS: there is no module no\.such"):
        load_registry(registry_settings(file, MINIMAL, operations="no.such"))


def test_a_downstream_that_is_named_and_declared_nowhere_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "operations.toml"
    path.write_text('[downstreams.geocoder]\nrate = "1/s"\n[operations.a]\ndownstream = "geocodr"\nurl = "http://a/"\n')

    with pytest.raises(ConfigurationError, match=r"'geocodr' is declared nowhere; write \[downstreams.geocodr\]"):
        load_registry(Settings(_env_file=None, operations_file=path))
