"""What is configured badly is found before anything starts: by `check`, and by each process, in the same lines."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY, free_port
from tidegate.webhooks.signing import KEY_BYTES

KEY = base64.b64encode(b"k" * KEY_BYTES).decode()
GOOD = '[operations.quote]\nurl = "http://127.0.0.1/"\n'
MODULE = """\
from tidegate.operations.python_operation import operation


@operation({options})
{kind} {name}(params: int) -> int:
    return params
"""
WORKER = ("celery", "-A", "tasks.app", "worker", "--pool", "threads", "-n", "io-1@tidegate", "-Q")
PROGRAMS = {
    "check": ("config.check",),
    "make run": ("embedded",),
    "io worker": (*WORKER, "io"),
    "web": ("webapp",),
    "scheduler": ("tasks.scheduler",),
}
WITH_SECRETS = ("check", "make run", "io worker")


def run(program: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Starts it on this folder, where its modules and its data lie."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    settings = {
        "TIDEGATE_DATA": str(folder / "data"),
        "TIDEGATE_OPERATIONS_FILE": str(folder / "operations.toml"),
        "TIDEGATE_PORT": str(free_port()),
        "TIDEGATE_SAMPLE_PORT": "0",
        "TIDEGATE_BROKER_URL": "redis://127.0.0.1:1/0",
    }
    return subprocess.run(
        [sys.executable, "-m", *PROGRAMS[program]],
        cwd=REPOSITORY,
        env={**kept, **settings, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "operations.toml").write_text(GOOD)
    return tmp_path


def assert_refused(program: str, folder: Path, lines: list[str], **environment: str) -> None:
    """It ended with 2, said these lines and no more, started nothing and left nothing."""
    done = run(program, folder, **environment)

    said = done.stderr.replace(f"{folder}/", "").splitlines()
    assert [line[: len(start)] for line, start in zip(said, lines, strict=False)] == lines, done.stderr
    assert len(said) == len(lines), done.stderr
    assert (done.returncode, done.stdout) == (2, "")
    assert not (folder / "data").exists()


@pytest.mark.parametrize("program", PROGRAMS)
def test_all_judge_alike_but_for_secrets_which_those_alone_have_who_call_downstreams(
    folder: Path, program: str
) -> None:
    (folder / "operations.toml").write_text(
        f'{GOOD}headers = {{ A = "${{QUOTE_KEY}}" }}\nspeed = 3\n[operations.other]\nurl = "http://straße/"\n'
    )
    (folder / "acme.py").write_text(
        MODULE.format(kind="def", name="quote", options="")
        + MODULE.format(kind="async def", name="later", options='queue="GPU", max_body="1 MB"')
    )
    (folder / "broken.py").write_text("import acme\nimport nowhere\n")
    secret = "operations.toml:3: operations.quote.headers.A: ${QUOTE_KEY} is not set in the environment; set QUOTE_KEY"
    lines = [
        *([secret] if program in WITH_SECRETS else []),
        "operations.toml:4: operations.quote.speed: there is no such key",
        "operations.toml:6: operations.other.url: only visible ASCII characters",
        "acme.py:10: operation later: max_body: a number of bytes, not '1 MB'",
        "acme.py:10: operation later: queue: 'GPU' can't be a queue: the name of a queue is made of small letters",
        "broken.py:2: ModuleNotFoundError: No module named 'nowhere'",
        "TIDEGATE_OPERATIONS: there is no module no.such",
        "acme.py:4: operation quote: operations.toml:1 has an operation of this name, too; rename one",
    ]

    assert_refused(program, folder, lines, TIDEGATE_OPERATIONS="acme,broken,no.such")


@pytest.mark.parametrize("program", ["io worker", "web", "scheduler"])
def test_bad_settings_are_told_line_by_line_by_each_process(folder: Path, program: str) -> None:
    lines = ["TIDEGATE_PROT: no such setting; did you mean TIDEGATE_PORT?", "TIDEGATE_LEASE_SECONDS: "]

    assert_refused(program, folder, lines, TIDEGATE_PROT="8001", TIDEGATE_LEASE_SECONDS="soon")


@pytest.mark.parametrize("program", ["check", "make run"])
def test_settings_file_and_modules_are_told_together(folder: Path, program: str) -> None:
    (folder / "operations.toml").write_text(f"{GOOD}speed = 3\n")
    (folder / "acme.py").write_text("")
    lines = [
        "TIDEGATE_LEASE_SECONDS: ",
        "operations.toml:3: operations.quote.speed: there is no such key",
        "acme.py:1: acme declares no operation",
    ]

    assert_refused(program, folder, lines, TIDEGATE_LEASE_SECONDS="soon", TIDEGATE_OPERATIONS="acme")


def test_a_key_of_webhooks_that_cannot_be_used_is_found_by_all_who_need_it(folder: Path) -> None:
    key = folder / "data" / "webhook.key"
    key.parent.mkdir()
    for content, told in ((b"", "is empty"), (b"\xff", "can't be used"), (b"a" * KEY_BYTES, "can't be used")):
        key.write_bytes(content)
        for program in ("check", "web"):
            done = run(program, folder)

            assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
            assert done.stderr.startswith(f"{key} {told}")
            assert list(key.parent.iterdir()) == [key]


@pytest.mark.parametrize(
    ("text", "fate"),
    [
        ("import os\nos._exit(0)\n", "exit code 0"),
        ("import os\nos._exit(7)\n", "exit code 7"),
        ("import os\nos.kill(os.getpid(), 11)\n", "signal SIGSEGV"),
    ],
)
def test_a_module_that_ends_the_process_that_imports_it_stops_the_start(folder: Path, text: str, fate: str) -> None:
    (folder / "acme.py").write_text(text)

    done = run("make run", folder, TIDEGATE_OPERATIONS="acme")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"the check of what is configured ended with {fate}; `tidegate check` shows how far it came\n"
    )
    assert not (folder / "data").exists()


def test_check_says_how_many_jobs_a_call_takes(folder: Path) -> None:
    batch = "batch = { max = 10, format = 'array' }"
    (folder / "operations.toml").write_text(f"{GOOD}[operations.embed]\nurl = 'http://127.0.0.1/'\n{batch}\n")
    module = MODULE.format(options="batch=5", kind="def", name="lengths").replace("int", "list[int]")
    (folder / "acme_lengths.py").write_text(module)

    done = run("check", folder, TIDEGATE_OPERATIONS="acme_lengths")

    assert done.returncode == 0, done.stderr
    assert "  embed: POST http://127.0.0.1/, up to 10 jobs a call (array), downstream embed\n" in done.stdout
    assert "acme_lengths.py:4, up to 5 jobs a call, queue cpu, downstream lengths\n" in done.stdout


@pytest.mark.parametrize(("key", "kept"), [("", "in each worker process"), (KEY, "by the whole cluster")])
def test_check_says_whose_an_access_token_is(folder: Path, key: str, kept: str) -> None:
    oauth = '{ token_url = "http://127.0.0.1/token", client_id = "a", client_secret = "${API_SECRET}" }'
    (folder / "operations.toml").write_text(f"{GOOD}[operations.call]\nurl = 'http://127.0.0.1/'\noauth = {oauth}\n")

    done = run("check", folder, API_SECRET="s3cret", TIDEGATE_SEALING_KEY=key)

    assert done.returncode == 0, done.stderr
    assert f"  call: POST http://127.0.0.1/, downstream call; its token is kept {kept}\n" in done.stdout
    assert "  quote: POST http://127.0.0.1/, downstream quote\n" in done.stdout
    assert "s3cret" not in done.stdout


@pytest.mark.parametrize("program", ["check", "io worker"])
def test_a_sealing_key_that_is_none_is_told_by_its_name(folder: Path, program: str) -> None:
    assert_refused(program, folder, ["TIDEGATE_SEALING_KEY: each key is 32 bytes in base64"], TIDEGATE_SEALING_KEY="x")
