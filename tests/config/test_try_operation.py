"""`tidegate try`: one call by hand, as a person at a terminal sees it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.try_operation import try_operation
from tests.support.http_server import HttpServer, respond, serving
from tests.support.oauth_server import CLIENT_ID, CLIENT_SECRET, serving_oauth
from tests.support.processes import REPOSITORY
from tests.support.tls import Certificates, speak_no_tls, speak_tls

SECRET = "hunter2"


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as running:
        running.answer = respond(200, b'{"price": 1}', content_type="application/json")
        yield running


@pytest.fixture
def file(tmp_path: Path, server: HttpServer) -> Path:
    path = tmp_path / "operations.toml"
    path.write_text(f"""
[operations.order]
url = "{server.url}/v1/customers/{{customer}}?key=${{CRM_KEY}}"
headers = {{ Authorization = "Bearer ${{CRM_KEY}}", X-Team = "sales" }}
pass_headers = ["X-Customer"]
body = "json:/order"
fail_when = "json:/error"
""")
    return path


def tried(file: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    done = subprocess.run(
        [sys.executable, "-m", "tidegate_client", "try", *arguments, f"--operations-file={file}"],
        cwd=REPOSITORY,
        env={**kept, "PYTHONPATH": str(REPOSITORY / "client"), "CRM_KEY": SECRET, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


INPUT = '{"customer": "AC/DC", "order": {"total": 9.90}}'


def test_request_answer_and_what_becomes_of_a_job_are_shown(file: Path, server: HttpServer) -> None:
    code, shown = tried(file, "order", "-d", INPUT, "-H", "X-Customer: me")

    assert code == 0, shown
    assert f"POST {server.url}/v1/customers/AC%2FDC?key=${{CRM_KEY}}" in shown
    for line in ("authorization: Bearer ${CRM_KEY}", "x-team: sales", "x-customer: me", '{"total": 9.90}'):
        assert line in shown
    assert "HTTP/1.1 200" in shown
    assert '{"price": 1}' in shown
    assert "The job succeeds. Its result: 12 bytes, application/json" in shown
    (received,) = server.received
    assert received.headers["authorization"] == f"Bearer {SECRET}"
    assert received.body == b'{"total": 9.90}'


@pytest.mark.parametrize(
    ("status", "body", "fields", "words"),
    [
        (200, b'{"error": "no"}', {}, "The job fails for good, downstream_error: the downstream answered 200 with"),
        (404, b"nothing", {}, "The job fails for good, downstream_error: the downstream answered 404"),
        (500, b"oh", {}, "Up to 4 more follow, the next within 1s"),
        (500, b"oh", {"retry_after": "9"}, "not before 9s"),
        (429, b"", {"retry_after": "7"}, "order is full and rests for 7s. No attempt is counted."),
        (503, b"", {}, "order is full and rests for 1 s, 2 s, 4 s"),
        (200, b"\xff\x00", {}, "(2 bytes of application/json)"),
        (200, b"{", {}, "It says that it is JSON and is none"),
    ],
)
def test_each_answer_is_told_as_tidegate_takes_it(  # noqa: PLR0917 - a table, and what it needs
    file: Path,
    server: HttpServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
    fields: dict[str, str],
    words: str,
) -> None:
    monkeypatch.setenv("CRM_KEY", SECRET)
    server.answer = respond(status, body, content_type="application/json", **fields)

    code = try_operation("order", INPUT.encode(), operations_file=file)

    shown = capsys.readouterr().out
    assert words in shown
    assert SECRET not in shown
    assert code == (0 if "fails" not in words and status == 200 else 1)


def test_what_a_submit_would_refuse_is_told_without_a_call(file: Path, server: HttpServer) -> None:
    code, shown = tried(file, "order", "-d", '{"customer": "..", "order": 1}')
    assert code == 1
    assert "A submit would be refused: /customer: it leads to another path" in shown
    assert not server.received


def test_nobody_there_is_told_with_where_it_was_looked_for(file: Path, server: HttpServer) -> None:
    where = server.url.removeprefix("http://")
    server.close()
    code, shown = tried(file, "order", "-d", INPUT)
    assert code == 1
    assert f"connects to {where}" in shown
    assert "The attempt fails, downstream_error: the downstream can't be reached" in shown


def test_an_unknown_name_and_a_faulty_file_are_2(file: Path) -> None:
    code, shown = tried(file, "ordr", "-d", INPUT)
    assert code == 2
    assert "there is no operation 'ordr'; there are csv_profile, order (did you mean 'order'?)" in shown
    code, shown = tried(file, "caption", "-d", INPUT)
    assert (code, "named by an entry point of what is installed" in shown) == (2, True)
    code, shown = tried(file, "order", "-d", INPUT, CRM_KEY="")
    assert (code, "operations.toml:3: operations.order.url" in shown) == (2, True)


def test_what_a_stranger_may_not_know_is_told_beside_the_outcome(
    file: Path, server: HttpServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_KEY", SECRET)
    server.answer = respond(202, location="/status/1")
    assert try_operation("order", INPUT.encode(), operations_file=file) == 0
    assert "poll = true asks there until it is" in capsys.readouterr().out
    server.answer = respond(200, location="/made/1")
    assert try_operation("order", INPUT.encode(), operations_file=file) == 0
    assert "poll" not in capsys.readouterr().out
    speak_no_tls(server)
    file.write_text(file.read_text().replace("http:", "https:"))
    assert try_operation("order", INPUT.encode(), operations_file=file) == 1
    assert "Does that port speak https:// at all?" in capsys.readouterr().out


def test_a_certificate_that_nobody_vouches_for_is_told_with_what_would_do(
    server: HttpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speak_tls(server, Certificates(tmp_path).of_server())
    file = tmp_path / "operations.toml"
    file.write_text(f'[operations.order]\nurl = "{server.url.replace("http:", "https:")}/"\n')
    assert try_operation("order", b"{}", operations_file=file) == 1
    assert "ca_file or TIDEGATE_CA_FILE names that one's" in capsys.readouterr().out


def test_no_file_where_one_starts_is_told_with_how_to_name_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEGATE_OPERATIONS_FILE", raising=False)
    assert try_operation("order", b"{}") == 2
    assert "name the file with --operations-file" in capsys.readouterr().err


def test_a_python_operation_runs_here(file: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a;b\n1;2\n")
    code, shown = tried(file, "csv_profile", str(tmp_path / "table.csv"))
    assert code == 0, shown
    assert '"rows":1' in shown
    assert "progress: " in shown


def test_an_operation_that_takes_several_jobs_is_called_for_one(
    tmp_path: Path, server: HttpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "operations.toml"
    path.write_text(f'[operations.embed]\nurl = "{server.url}"\nbatch = {{ max = 10, format = "array" }}\n')
    server.answer = respond(200, b'[{"v": 1.0}]')

    assert try_operation("embed", b"{}", operations_file=path) == 0

    shown = capsys.readouterr().out
    assert "\n  [{}]\n" in shown, "as it went out"
    assert '\n  {"v": 1.0}\n' in shown
    assert server.received[0].body == b"[{}]"


def test_a_token_is_fetched_for_the_call_and_not_shown(file: Path) -> None:
    with serving_oauth() as oauth_server:
        values = f'token_url = "{oauth_server.url}/token", client_id = "{CLIENT_ID}", client_secret = "${{API_SECRET}}"'
        file.write_text(f'[operations.order]\nurl = "{oauth_server.url}/api"\noauth = {{ {values} }}\n')

        code, shown = tried(file, "order", "-d", "{}", API_SECRET=CLIENT_SECRET)

    assert code == 0, shown
    assert "\n  authorization: ***\n" in shown
    (token,) = oauth_server.all_tokens
    assert token not in shown
    assert CLIENT_SECRET not in shown


def test_work_that_is_accepted_is_told_with_where_and_when_it_is_asked_for(
    file: Path, server: HttpServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_KEY", SECRET)
    file.write_text(file.read_text() + "poll = true\n")
    server.answer = respond(202, location="/status/1", retry_after="7")
    assert try_operation("order", INPUT.encode(), operations_file=file) == 0
    server.answer = respond(303, location="/status/1")
    assert try_operation("order", INPUT.encode(), operations_file=file) == 0
    shown = capsys.readouterr().out
    assert f"A job keeps its place, and asks after 7s at {server.url}/status/1" in shown
    assert f"and asks at once at {server.url}/status/1" in shown
    assert [each.line.partition(" ")[0] for each in server.received] == ["POST"] * 2, "one call each"


def test_a_function_that_raises_is_a_failed_attempt_here_as_in_a_worker(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_KEY", SECRET)
    monkeypatch.setenv("TIDEGATE_OPERATIONS", "tests.support.operations")
    assert try_operation("raising", b"1", operations_file=file) == 1
    assert "The attempt fails, operation_error: RuntimeError: raised by the operation" in capsys.readouterr().out


def test_an_input_that_is_too_large_is_refused_as_at_the_door(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, server: HttpServer
) -> None:
    monkeypatch.setenv("CRM_KEY", SECRET)
    file.write_text(file.read_text() + "max_body = 10\n")
    assert try_operation("order", INPUT.encode(), operations_file=file) == 1
    assert "A submit would be refused: order takes at most 10 bytes" in capsys.readouterr().out
    assert not server.received


def test_a_result_that_is_too_large_is_a_failure_as_in_a_worker(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_KEY", SECRET)
    monkeypatch.setenv("TIDEGATE_OPERATIONS", "tests.support.operations")
    monkeypatch.setenv("TIDEGATE_MAX_RESULT", "10")
    assert try_operation("echo", b'"much longer than ten"', operations_file=file) == 1
    assert "the result is too large: 22 bytes, and 10 is the most" in capsys.readouterr().out
