"""Nobody else on the machine of `make run` reads or reaches anything; which of its processes has which secret."""

import os
import pwd
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from tests.support.gateway import OPERATIONS, Gateway
from tests.support.processes import privileges_of
from tests.support.waiting import wait_until

DOWNSTREAM_SECRET = "crm-secret-4711"
OTHER_SECRET = "aws-secret-4712"
WEBHOOK_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
PROCESSES = ("web", "scheduler", "io-1", "cpu-1", "webhooks-1", "sample", "broker")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Started on a data folder that an older version left open to all, by a shell that has secrets."""
    folder = tmp_path_factory.mktemp("gateway")
    old = folder / "data" / "run"
    old.mkdir(parents=True)
    (old / "web.pid").write_text("1\n")
    for path in (folder, folder / "data", old):
        path.chmod(0o755)
    with pytest.MonkeyPatch.context() as shell:
        shell.setenv("CRM_TOKEN", DOWNSTREAM_SECRET)
        shell.setenv("AWS_SECRET_ACCESS_KEY", OTHER_SECRET)
        operations = f'{OPERATIONS}headers = {{ Authorization = "Bearer ${{CRM_TOKEN}}" }}\n'
        stack = Gateway(folder, operations=operations, settings={"WEBHOOK_KEY": WEBHOOK_KEY, "KEY": "tg_operator"})
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def broker_url(gateway: Gateway) -> str:
    """Where an operator finds the broker."""
    return (gateway.data / "run" / "broker.url").read_text().strip()


def family(gateway: Gateway, name: str) -> list[psutil.Process]:
    """The process of this name, and those that it made."""
    process = psutil.Process(gateway.pid(name))
    return [process, *process.children(recursive=True)]


def test_the_data_folder_and_all_that_is_written_to_it_is_its_owners_alone(gateway: Gateway) -> None:
    answers = [gateway.submit("quote", json={"sku": "A", "quantity": 1}), gateway.submit("echo", json={})]
    assert {gateway.wait_final(each.headers["Location"]).status_code for each in answers} == {200}

    found = {path.relative_to(gateway.data): path.lstat().st_mode for path in gateway.data.rglob("*")}

    names = {str(path) for path in found}
    assert names >= {"tidegate.db", "tidegate.db-wal", "sample-arrivals.jsonl", "run/broker.url", "run/scheduler.alive"}
    assert {path.suffix for path in found} >= {".pid", ".conf", ".aof", ".lock"}
    assert {str(path): oct(mode) for path, mode in found.items() if mode & 0o077 and not stat.S_ISLNK(mode)} == {}
    assert stat.S_IMODE(gateway.data.stat().st_mode) == 0o700
    assert "could be read by others on this machine; now it is yours alone" in gateway.logs()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try it as somebody else")
def test_somebody_else_reads_nothing_of_it(gateway: Gateway) -> None:
    somebody = privileges_of(pwd.getpwnam("nobody"))
    for path in (gateway.data, gateway.data / "tidegate.db", gateway.data / "run" / "broker.url"):
        tried = subprocess.run(["cat", path], capture_output=True, text=True, check=False, cwd="/", **somebody)
        assert (tried.returncode, tried.stdout) == (1, ""), path
        assert "Permission denied" in tried.stderr


@pytest.mark.parametrize("password", [None, "", "guess"])
def test_who_has_no_password_of_the_broker_can_do_nothing_there(gateway: Gateway, password: str | None) -> None:
    own = redis.Redis.from_url(broker_url(gateway))
    place = own.connection_pool.connection_kwargs
    before = gateway.pid("broker")
    with own, redis.Redis(host=place["host"], port=place["port"], password=password) as stranger:
        for command in ("PING", "SHUTDOWN NOSAVE", "KEYS *", "PUBLISH tidegate:wake x", "CONFIG GET requirepass"):
            with pytest.raises(redis.AuthenticationError):
                stranger.execute_command(*command.split())
        assert own.ping()
    assert gateway.pid("broker") == before


def test_the_password_is_on_no_command_line_and_in_no_log(gateway: Gateway) -> None:
    password = redis.Redis.from_url(broker_url(gateway)).connection_pool.connection_kwargs["password"]
    assert len(password) == 64
    shown = [
        word
        for name in (*PROCESSES, "supervisor")
        for process in family(gateway, name)
        for word in process.cmdline()
        if password in word
    ]
    assert not shown
    assert password not in gateway.logs()


def test_after_the_broker_was_killed_the_password_is_the_same_and_jobs_go_on(gateway: Gateway) -> None:
    before = broker_url(gateway)
    old = gateway.pid("broker")
    (gateway.data / "run" / "broker.url").unlink()
    psutil.Process(old).kill()
    wait_until(lambda: gateway.pid("broker") != old, description="the broker runs again")
    answer = gateway.submit("echo", json={"after": "the kill"})
    assert gateway.wait_final(answer.headers["Location"]).json()["result"] == {"after": "the kill"}
    assert broker_url(gateway) == before
    assert gateway.client.get("/health/ready").json()["broker"] == "ok"


def holders(gateway: Gateway, secret: str) -> set[str]:
    """The names of the processes that have it in their environment, or have a child that has."""
    return {
        name
        for name in PROCESSES
        if any(secret in value for process in family(gateway, name) for value in process.environ().values())
    }


def test_secrets_of_operations_are_with_the_workers_of_operations_alone(gateway: Gateway) -> None:
    assert holders(gateway, DOWNSTREAM_SECRET) == {"io-1", "cpu-1"}
    assert holders(gateway, OTHER_SECRET) == {"io-1", "cpu-1"}


def test_the_key_of_webhooks_is_with_those_who_need_it_and_the_operators_key_with_nobody(gateway: Gateway) -> None:
    assert holders(gateway, WEBHOOK_KEY) == {"web", "webhooks-1"}
    assert holders(gateway, "tg_operator") == set()


def test_broker_and_sample_know_neither_database_nor_broker(gateway: Gateway) -> None:
    assert holders(gateway, broker_url(gateway)) == {"web", "scheduler", "io-1", "cpu-1", "webhooks-1"}
    assert holders(gateway, "sqlite://") == {"web", "scheduler", "io-1", "cpu-1", "webhooks-1"}


def test_operators_reach_the_broker_by_its_file(gateway: Gateway, tmp_path: Path) -> None:
    reached = redis.Redis.from_url(broker_url(gateway))
    with reached:
        assert reached.info("clients")["connected_clients"] > 3
    assert stat.S_IMODE((gateway.data / "run" / "broker.url").stat().st_mode) == 0o600


def test_workers_that_lack_the_secrets_of_operations_live_all_the_same(gateway: Gateway) -> None:
    """A worker of webhooks needs none, and counts as there."""
    workers = gateway.client.get("/health/ready").json()["workers"]
    assert workers.keys() == {"io", "cpu", "webhooks"}
