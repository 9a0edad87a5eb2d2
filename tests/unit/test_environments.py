"""What each process of `make run` finds in its environment."""

from pathlib import Path

import pytest

from config.broker_url import check_broker_url
from config.settings import Settings, read
from embedded.environments import Environments
from embedded.stack import programs
from embedded.worker_set import WorkerSet

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
FROM_SHELL = {
    "PATH": "/bin",
    "HOME": "/home/op",
    "LC_ALL": "C.UTF-8",
    "PGSSLROOTCERT": "/ca.pem",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector",
    "AWS_SECRET_ACCESS_KEY": "aws-secret",
    "GITHUB_TOKEN": "token",
    "TIDEGATE_KEY": "tg_operator",
    "TIDEGATE_WEBHOOK_KEY": KEY,
    "TIDEGATE_SIGNING_KEY": KEY,
    "TIDEGATE_SEALING_KEY": KEY,
    "JEMALLOC_CONF": "x",
}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Read in a folder with a .env, as the supervisor reads them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("GEOCODER_KEY=downstream-secret\nTIDEGATE_RETENTION=1d\n")
    for name, value in FROM_SHELL.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path / "data"))
    return read()


def environments(settings: Settings) -> dict[str, dict[str, str]]:
    """By the name of the process."""
    members = [member for group in programs(settings) for member in group]
    each = [member.program(member.name(1)) if isinstance(member, WorkerSet) else member for member in members]
    return {program.name: dict(program.environment) for program in each}


def has(environment: dict[str, str], *names: str) -> bool:
    """Whether one of these has a value in it."""
    return any(environment.get(name) for name in names)


def test_what_operations_name_is_with_their_workers_alone(settings: Settings) -> None:
    found = environments(settings)
    for secret in ("GEOCODER_KEY", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        assert {name for name, each in found.items() if has(each, secret)} == {"io-1", "cpu-1"}, secret


def test_the_key_of_webhooks_is_with_those_who_make_or_use_secrets(settings: Settings) -> None:
    found = environments(settings)
    assert {name for name, each in found.items() if has(each, "TIDEGATE_WEBHOOK_KEY")} == {"web", "webhooks-1"}
    assert {name for name, each in found.items() if has(each, "TIDEGATE_SIGNING_KEY")} == {"web"}
    assert {name for name, each in found.items() if has(each, "TIDEGATE_SEALING_KEY")} == {"io-1", "cpu-1"}
    # Else it would be read from the file .env, which all of them find.
    assert found["web"]["TIDEGATE_SEALING_KEY"] == found["webhooks-1"]["TIDEGATE_SEALING_KEY_FILE"] == ""
    assert found["io-1"]["TIDEGATE_WEBHOOK_KEY"] == found["scheduler"]["TIDEGATE_WEBHOOK_KEY_FILE"] == ""


def test_the_key_of_the_person_who_started_it_is_with_nobody(settings: Settings) -> None:
    assert not any(has(each, "TIDEGATE_KEY") for each in environments(settings).values())


def test_broker_and_sample_have_no_setting_and_no_secret(settings: Settings) -> None:
    found = environments(settings)
    for name in ("broker", "sample"):
        assert set(found[name]) - {"PATH", "HOME", "LC_ALL"} <= {
            *(
                "TIDEGATE_DATA",
                "PYTHONUNBUFFERED",
                "USER",
                "LOGNAME",
                "SHELL",
                "LANG",
                "LANGUAGE",
                "TZ",
                "TMPDIR",
                "TERM",
            ),
            *(each for each in found[name] if each.startswith(("LC_", "LD_", "DYLD_", "PYTHON", "MALLOC_"))),
        }


def test_settings_and_what_belongs_to_the_system_is_with_all_of_ours(settings: Settings) -> None:
    found = environments(settings)
    for name in ("web", "scheduler", "io-1", "cpu-1", "webhooks-1"):
        assert found[name]["TIDEGATE_RETENTION"] == "1d", name
        assert found[name]["PGSSLROOTCERT"] == "/ca.pem", name
        assert has(found[name], "OTEL_EXPORTER_OTLP_ENDPOINT", "PATH"), name
        assert found[name]["TIDEGATE_BROKER_URL"].startswith("redis://:"), name


def test_shared_variables_are_with_all_of_ours(settings: Settings) -> None:
    shared = settings.model_copy(update={"shared_environment": ("JEMALLOC_CONF",)})
    found = environments(shared)
    assert {name for name, each in found.items() if has(each, "JEMALLOC_CONF")} == {*found} - {"broker", "sample"}


def test_with_sqs_those_who_speak_to_it_have_the_credentials(settings: Settings) -> None:
    over_sqs = settings.model_copy(update={"broker_url": "sqs://KEYID:broker-secret@/?region=eu-central-1"})
    data = {"TIDEGATE_DATA": "/data", "PYTHONUNBUFFERED": "1"}
    made = Environments.of(over_sqs, data)
    assert has(made.of_scheduler(), "AWS_SECRET_ACCESS_KEY")
    assert has(made.of_webhooks(), "AWS_SECRET_ACCESS_KEY")
    assert not has(made.bare(), "AWS_SECRET_ACCESS_KEY")
    assert not has(made.of_web(), "AWS_SECRET_ACCESS_KEY"), "a web server does not speak to SQS"
    assert "broker-secret" not in made.of_web()["TIDEGATE_BROKER_URL"]


@pytest.mark.parametrize(
    ("broker_url", "told"),
    [
        ("amqp://user:secret@rabbit:5672/jobs", "amqp://rabbit:5672/jobs"),
        (f"amqps://user:a%2Fb@rabbit/?ca={__file__}", f"amqps://rabbit/?ca={__file__}"),
        ("sqs://KEYID:secret@/?region=eu-central-1", "sqs:///?region=eu-central-1"),
        ("sqs://?region=eu-central-1", "sqs://?region=eu-central-1"),
    ],
)
def test_a_web_server_has_no_password_of_a_broker_that_it_does_not_speak_to(
    settings: Settings, broker_url: str, told: str
) -> None:
    other = settings.model_copy(update={"broker_url": broker_url})
    web = environments(other)["web"]
    assert (web["TIDEGATE_BROKER_URL"], web["TIDEGATE_BROKER_URL_FILE"]) == (told, "")
    assert check_broker_url(told)
    assert not has(environments(settings)["web"], "TIDEGATE_BROKER_URL_FILE")
