"""Settings: read from the environment, and a bad one stops the start by its name."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from config.settings import PREFIX, Settings, read
from migrations.upgrade import upgrade
from tests.support.processes import REPOSITORY
from tidegate.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_without_an_environment_the_defaults_hold(tmp_path: Path) -> None:
    current = read()

    assert (current.host, current.port, current.auth) == ("127.0.0.1", 8000, "off")
    assert current.database == f"sqlite:///{tmp_path / 'data' / 'tidegate.db'}"
    assert current.run_folder == Path("data/run")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("PORT", ""),
        ("AUTH", "on"),
        ("LEASE_SECONDS", "1"),
        ("LEASE_SECONDS", "1.5"),
        ("GRACE_SECONDS", "-1"),
        ("RETENTION", "soon"),
        ("RETENTION", "0"),
        ("IO_WORKERS", "0"),
        ("IO_WORKERS", "4-1"),
        ("CPU_WORKERS", "some"),
        ("WEBHOOK_WORKERS", "1-1001"),
        ("IO_CONCURRENCY", "1001"),
        ("CPU_CONCURRENCY", "two"),
        ("MAX_BODY", "0"),
        ("MAX_RESULT", "-1"),
        ("SAMPLE_PORT", "-1"),
        ("CA_FILE", "/no/such/file.pem"),
        ("CA_FILE", __file__),
        ("CA_FILE", "/"),
        ("LOG_LEVEL", "LOUD"),
        ("PUBLIC_URL", "ftp://host"),
        ("PUBLIC_URL", "not a url"),
        ("PUBLIC_URL", "https://host/#secret"),
        ("PUBLIC_URL", "https://host/?a=secret"),
        ("PUBLIC_URL", "https://host:port/"),
        ("PUBLIC_URL", "https://[::1/"),
        ("PUBLIC_URL", "https://bücher.example"),
        ("PUBLIC_URL", "https://host/a b"),
        ("DATABASE_URL", "tidegate.db"),
        ("DATABASE_URL", "mysql://u:secret@host/db"),
        ("DATABASE_URL", "postgres://u:secret@host/db"),
        ("DATABASE_URL", "postgresql://u:secret@host:port/db"),
        ("DATABASE_URL", "postgresql+psycopg2://u:secret@host/db"),
        ("DATABASE_URL", "postgresql+asyncpg://u:secret@host/db"),
        ("DATABASE_URL", "postgresql+nosuch://u:secret@host/db"),
        ("DATABASE_URL", "sqlite+aiosqlite:////data/tidegate.db"),
        ("BROKER_URL", "localhost"),
        ("BROKER_URL", "http://u:secret@host"),
        ("BROKER_URL", "redis://"),
        ("BROKER_URL", "redis://:secret@host:port/0"),
        ("BROKER_URL", "redis://:secret@host/zero"),
        ("BROKER_URL", "redis://:secret@host/0#1"),
        ("BROKER_URL", "amqp://u:secret@host/jobs#1"),
        ("BROKER_URL", "redis+socket://"),
        ("BROKER_URL", "redis+socket://host/path"),
        ("BROKER_URL", "unix:///path"),
        ("BROKER_URL", "amqp://"),
        ("BROKER_URL", "amqp://u:secret@host:0/"),
        ("BROKER_URL", "amqp://u:secret@host:99999/"),
        ("BROKER_URL", "amqp://u:secret@[host/"),
        ("BROKER_URL", "amqp://u:secret@one;amqp://u:secret@two"),
        ("BROKER_URL", "amqp://u:secret@host/?heartbeat=1"),
        ("BROKER_URL", "redis://:secret@host/0?ca=/etc/ca.pem"),
        ("BROKER_URL", "amqp://u:secret@host/?ca=/etc/ca.pem"),
        ("BROKER_URL", "amqps://u:secret@host/?key=/etc/client.key"),
        ("BROKER_URL", "sqs://key@/"),
        ("BROKER_URL", "sqs://key:secret@/queue"),
        ("BROKER_URL", "sqs://?visibility_timeout=1"),
        ("BROKER_URL", "sqs://?queues=tidegate-"),
        ("BELL_URL", "amqp://u:secret@host/"),
        ("BELL_URL", "redis://"),
        ("BELL_URL", "redis://:secret@host/#0"),
        ("CORS_ORIGINS", "https://*.example.com"),
        ("CORS_ORIGINS", "https://app.example.com,https://*.example.com"),
        ("CORS_ORIGINS", "https://app.*"),
        ("CORS_ORIGINS", "https://(a|b).example.com"),
        ("CORS_ORIGINS", r"https://.+\.example\.com$"),
        ("CORS_ORIGINS", "https://[a-z].example.com"),
        ("CORS_ORIGINS", "https://app.example.com/"),
        ("CORS_ORIGINS", "https://app.example.com/path"),
        ("CORS_ORIGINS", "https://App.example.com"),
        ("CORS_ORIGINS", "https://app.example.com:443"),
        ("CORS_ORIGINS", "https://u@app.example.com"),
        ("CORS_ORIGINS", "app.example.com"),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "*,https://app.example.com"),
        ("HOST", "0.0.0.0"),  # noqa: S104 - refused
        ("HOST", "10.1.2.3"),
        ("HOST", "example.org"),
        ("HOST", "::"),
        ("HOST", ""),
    ],
)
def test_a_bad_value_stops_the_start_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(PREFIX + name, value)

    with pytest.raises(ConfigurationError) as error:
        read()

    assert PREFIX + name in str(error.value)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_every_bad_value_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_PORT", "x")
    monkeypatch.setenv("TIDEGATE_RETENTION", "x")

    monkeypatch.setenv("TIDEGATE_PROT", "1")

    with pytest.raises(ConfigurationError) as error:
        read()

    assert [fault.partition(":")[0] for fault in error.value.faults] == [
        "TIDEGATE_PROT",
        "TIDEGATE_PORT",
        "TIDEGATE_RETENTION",
    ]


def test_a_misspelt_setting_is_told_and_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_PROT", "8001")

    with pytest.raises(ConfigurationError, match=r"TIDEGATE_PROT: .*; did you mean TIDEGATE_PORT\? `tidegate set"):
        read()


def test_a_misspelt_setting_in_the_file_is_told_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TIDEGATE_PROT=8001\n")

    with pytest.raises(ConfigurationError, match=r"^\.env:1: TIDEGATE_PROT: no such setting"):
        read()


def test_a_bad_value_is_told_where_it_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# ours\n\nTIDEGATE_PORT=x\nTIDEGATE_RETENTION=y\n")
    monkeypatch.setenv("TIDEGATE_RETENTION", "z")

    with pytest.raises(ConfigurationError) as error:
        read()

    assert [fault.partition(": ")[0] for fault in error.value.faults] == [".env:3", "TIDEGATE_RETENTION"]
    assert "'z' is not a duration" in str(error.value)


def test_a_line_that_would_be_passed_over_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TIDEGATE_PORT=8123\nGEOCODER_KEY: secret\n\nOTHER KEY=secret\n")

    with pytest.raises(ConfigurationError) as error:
        read()

    assert error.value.faults == (".env:2: write NAME=value", ".env:4: write NAME=value")


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"TIDEGATE_PORT=8123\n\xff\xfe\n")

    with pytest.raises(ConfigurationError, match=r"^\.env: it can't be read"):
        read()


def test_a_byte_order_mark_before_the_first_line_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfTIDEGATE_PORT=8123\nTIDEGATE_RETENTION=1h\n")

    assert (read().port, read().retention) == (8123, timedelta(hours=1))


def test_a_byte_order_mark_in_a_file_of_a_setting_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_bytes(b"\xef\xbb\xbfredis://host/0\n")
    monkeypatch.setenv("TIDEGATE_BROKER_URL_FILE", str(tmp_path / "url"))

    assert read().broker_url == "redis://host/0"


def test_the_settings_of_the_client_and_of_others_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIDEGATE_URL", "http://gateway")
    monkeypatch.setenv("TIDEGATE_KEY", "secret")
    monkeypatch.setenv("GEOCODER_KEY", "secret")
    (tmp_path / ".env").write_text("TIDEGATE_URL=http://gateway\nGEOCODER_KEY=secret\n")

    read()


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TIDEGATE_PORT=9001\nTIDEGATE_RETENTION=1h\n")
    monkeypatch.setenv("TIDEGATE_PORT", "9002")

    current = read()

    assert (current.port, current.retention) == (9002, timedelta(hours=1))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_everyone_is_let_in_on_loopback_only(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("TIDEGATE_HOST", host)

    assert read().host == host


@pytest.mark.parametrize(
    "origins",
    ["https://app.example.com", "http://localhost:3000", "http://[::1]:3000", "https://xn--bcher-kva.example"],
)
def test_origins_are_given_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch, origins: str) -> None:
    monkeypatch.setenv("TIDEGATE_CORS_ORIGINS", f"{origins}, https://other.example")

    assert read().cors_origins == (origins, "https://other.example")


def test_with_keys_pages_of_all_origins_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_AUTH", "keys")
    monkeypatch.setenv("TIDEGATE_CORS_ORIGINS", "*")

    assert read().cors_origins == ("*",)


def test_a_bad_origin_is_told_what_would_be_a_good_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_CORS_ORIGINS", "https://App.example.com/")

    with pytest.raises(ConfigurationError, match=r"write https://app\.example\.com"):
        read()


def test_modules_are_given_by_comma(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_OPERATIONS", " a.b, c ,,")

    assert read().operations == ("a.b", "c")


@pytest.mark.parametrize("url", ["postgresql+psycopg://u:p@h/db", "postgresql://u:p@h/db", "sqlite:////tmp/x.db"])
def test_a_database_of_either_kind_may_be_given(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TIDEGATE_DATABASE_URL", url)

    assert read().database == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://:p@host:6379/0",
        "rediss://u:p@host",
        "redis+socket:///run/redis.sock",
        "amqp://u:p@host:5672/vhost",
        "amqp://u:p@[::1]//",
        "amqps://u:p@host/vhost",
        "sqs://",
        "sqs://key:secret%2F@/?region=eu-central-1&prefix=shop-",
        "sqs://?queues=https://sqs.eu-central-1.amazonaws.com/123456789012/tidegate-",
        "sqs://key:secret@127.0.0.1:5000/",
    ],
)
def test_each_kind_of_broker_may_be_given(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TIDEGATE_BROKER_URL", url)

    assert read().broker_url == read().bell == url


@pytest.mark.parametrize(
    ("url", "known_as"),
    [
        ("amqps://u:p@host/vhost?ca={}&cert={}&key={}", "amqps://u:p@host/vhost?ca={}&cert={}&key={}"),
        (
            "rediss://:p%2F@host/0?ca={}&cert={}&key={}",
            "rediss://:p%2F@host/0?ssl_ca_certs={}&ssl_certfile={}&ssl_keyfile={}",
        ),
        ("rediss://host/0?ssl_cert_reqs=none", "rediss://host/0?ssl_cert_reqs=none"),
    ],
)
def test_certificates_have_the_same_words_for_every_broker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, known_as: str
) -> None:
    files = [tmp_path / name for name in ("ca.pem", "client.pem", "client.key")]
    for file in files:
        file.touch()
    monkeypatch.setenv("TIDEGATE_BROKER_URL", url.format(*files))

    assert read().broker_url == read().bell == known_as.format(*files)


@pytest.mark.parametrize("setting", ["BROKER_URL", "BELL_URL"])
def test_a_certificate_that_is_not_there_stops_the_start(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv(f"TIDEGATE_{setting}", "rediss://:hidden@host/0?ca=/nowhere/ca.pem")

    with pytest.raises(ConfigurationError, match=f"TIDEGATE_{setting}: the file that ca= names is not there") as error:
        read()

    assert "hidden" not in str(error.value)


def test_a_bell_of_its_own_goes_before_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_BROKER_URL", "amqp://host")
    monkeypatch.setenv("TIDEGATE_BELL_URL", "redis://host")

    assert read().bell == "redis://host"


def test_sqs_names_the_packages_that_it_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_BROKER_URL", "sqs://key:hidden@/")
    monkeypatch.setattr("config.broker_url.find_spec", lambda name: None if name == "pycurl" else name)

    with pytest.raises(ConfigurationError, match=r"TIDEGATE_BROKER_URL: sqs:// needs pycurl: pip install -r ") as error:
        read()

    assert "hidden" not in str(error.value)


@pytest.mark.parametrize("url", ["https://host/gate", "http://[2001:db8::1]:8000", "HTTPS://Host:8443/a%20b"])
def test_a_public_url_loses_its_last_slash(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TIDEGATE_PUBLIC_URL", f"{url}/")

    assert read().public_url == url


def test_a_public_url_has_no_user_and_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_PUBLIC_URL", "https://u:hidden@host/")

    with pytest.raises(ConfigurationError, match=r"TIDEGATE_PUBLIC_URL: no user or password before the host") as error:
        read()

    assert "hidden" not in str(error.value)


ODD_NAMES = ("a%20b", "what?now", "a#b", "with blank", "größe ☂", "a@b:c", "a&b=c;d", "100%", "[x]", "%(here)s")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_database_lies_in_the_data_folder_whatever_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path / name))

    upgrade(read().database)

    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "tidegate.db").stat().st_size > 0


def test_the_settings_are_shown_with_their_secrets_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_DATABASE_URL", "postgresql+psycopg://u:hidden@h/db")
    monkeypatch.setenv("TIDEGATE_BROKER_URL", "redis://:hidden@h/0")
    monkeypatch.chdir(REPOSITORY)

    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "client"))
    command = [sys.executable, "-m", "tidegate_client", "settings"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "hidden" not in shown
    assert all(PREFIX + name.upper() in shown for name in Settings.model_fields)


def test_a_secret_may_stand_in_a_file_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "database_url"
    secret.write_text("postgresql+psycopg://u:hidden@h/db\n")
    monkeypatch.setenv("TIDEGATE_DATABASE_URL_FILE", str(secret))

    assert read().database == "postgresql+psycopg://u:hidden@h/db"


def test_a_value_beside_its_file_is_refused_because_one_of_them_is_out_of_date(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "broker_url"
    secret.write_text("redis://:hidden@h/0")
    monkeypatch.setenv("TIDEGATE_BROKER_URL_FILE", str(secret))
    monkeypatch.setenv("TIDEGATE_BROKER_URL", "redis://:hidden@h/1")

    with pytest.raises(
        ConfigurationError, match="TIDEGATE_BROKER_URL and TIDEGATE_BROKER_URL_FILE are both set"
    ) as error:
        read()

    assert "hidden" not in str(error.value)


def test_a_file_that_can_not_be_read_is_told_by_its_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIDEGATE_DATABASE_URL_FILE", str(tmp_path / "nowhere"))

    with pytest.raises(ConfigurationError, match=r"TIDEGATE_DATABASE_URL_FILE: .*nowhere can't be read: No such file"):
        read()


def test_a_bad_value_in_a_file_is_told_by_its_setting_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "database_url"
    secret.write_text("mysql://u:hidden@h/db")
    monkeypatch.setenv("TIDEGATE_DATABASE_URL_FILE", str(secret))

    with pytest.raises(ConfigurationError, match="TIDEGATE_DATABASE_URL: write") as error:
        read()

    assert "hidden" not in str(error.value)


def test_a_file_for_a_setting_that_there_is_not_is_a_misspelt_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_DATABSE_URL_FILE", "/run/secrets/database_url")

    with pytest.raises(ConfigurationError, match="TIDEGATE_DATABSE_URL_FILE: no such setting"):
        read()


def test_the_operations_file_is_the_operations_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not a file with the setting TIDEGATE_OPERATIONS in it."""
    monkeypatch.setenv("TIDEGATE_OPERATIONS_FILE", "/etc/tidegate/operations.toml")
    monkeypatch.setenv("TIDEGATE_OPERATIONS", "a.b")

    current = read()

    assert (current.operations_file, current.operations) == (Path("/etc/tidegate/operations.toml"), ("a.b",))
