"""Secrets in URLs are shown nowhere: not where settings are listed, and not in a log line."""

import io
import json
import logging
import sys

import pytest

from config import show_settings as listing
from config.logs import JsonFormatter, configure
from config.masking import masked, masked_url
from config.settings import PREFIX, Settings, settings

SECRET = "hunter2"
URLS = [
    ("postgresql+psycopg://user:hunter2@host:5432/name", "postgresql+psycopg://user:***@host:5432/name"),
    ("postgresql://user:hunter2/x@host/name", "postgresql://user:***@host/name"),
    ("postgresql://user:p@hunter2@host/name", "postgresql://user:***@host/name"),
    ("postgresql://host/name?user=u&password=hunter2", "postgresql://host/name?user=u&password=***"),
    ("postgresql://h/n?PassWord=hunter2&sslmode=require", "postgresql://h/n?PassWord=***&sslmode=require"),
    ("postgresql://h/n?pass%77ord=hunter2", "postgresql://h/n?pass%77ord=***"),
    ("postgresql://h/n?sslpassword=hunter2&sslkey=/etc/k", "postgresql://h/n?sslpassword=***&sslkey=/etc/k"),
    ("redis://:hunter2@host/0", "redis://:***@host/0"),
    ("redis://host/0?password=hunter2", "redis://host/0?password=***"),
    ("rediss://host/0?ssl_password=hunter2&ca=/etc/ca.pem", "rediss://host/0?ssl_password=***&ca=/etc/ca.pem"),
    ("amqp://user:hunter2%2F@host/vhost", "amqp://user:***@host/vhost"),
    ("sqs://keyid:hunter2@/?region=eu", "sqs://keyid:***@/?region=eu"),
    ("https://gw.example/?api_key=hunter2&token=hunter2&x=1", "https://gw.example/?api_key=***&token=***&x=1"),
    ("https://gw.example/?access_token=hunter2&client_secret=hunter2", "https://gw.example/?access_token=***&client_secret=***"),
]  # fmt: skip
PLAIN = [
    "sqlite:////data/tidegate.db",
    "https://gateway.example:8443/jobs?page=2&sort=name",
    "no url at all, password=x",
    "https://[::1]:8000/",
]


@pytest.mark.parametrize(("url", "shown"), URLS)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert masked_url(url) == shown


@pytest.mark.parametrize("text", PLAIN)
def test_what_has_none_is_shown_as_it_is(text: str) -> None:
    assert masked(text) == masked_url(text) == text


def test_urls_in_a_sentence_are_masked_each_by_itself() -> None:
    line = "from redis://:hunter2@a/0 to 'amqp://u:hunter2@b/' (http://c:80/x?token=hunter2), mail me@example.org"
    assert masked(line) == "from redis://:***@a/0 to 'amqp://u:***@b/' (http://c:80/x?token=*** mail me@example.org"


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name.endswith("_url")])
def test_no_setting_that_is_a_url_tells_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A setting that is added tomorrow is among them. One that may have no password is refused without telling it."""
    schemes = {"database_url": "postgresql", "broker_url": "redis", "bell_url": "redis"}
    url = f"{schemes.get(name, 'https')}://user:hunter2@host/0?password=hunter2&sslpassword=hunter2&token=hunter2"
    monkeypatch.setenv(PREFIX + name.upper(), url)
    settings.cache_clear()
    try:
        is_good = listing.main() == 0
    finally:
        settings.cache_clear()
    shown, faults = capsys.readouterr()
    assert SECRET not in shown + faults
    assert is_good is (name in schemes)
    assert "user:***@host/0?password=***" in shown if is_good else PREFIX + name.upper() in faults


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_log_lines_and_tracebacks_are_masked(log_format: str) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure(Settings(_env_file=None, log_format=log_format), "web")
        formatter = root.handlers[0].formatter
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert formatter
    try:
        raise OSError("can't reach postgresql://u:hunter2@host/name?password=hunter2")
    except OSError:
        fault = sys.exc_info()
    url = "redis://:hunter2@host/0?password=hunter2"
    record = logging.LogRecord("x", logging.ERROR, "", 1, "lost %s", (url,), fault)
    line = formatter.format(record)
    assert SECRET not in line
    assert "redis://:***@host/0" in line
    assert "OSError" in line
    if log_format == "json":
        assert isinstance(formatter, JsonFormatter)
        assert json.loads(io.StringIO(line).read())["message"] == "lost redis://:***@host/0?password=***"
