"""API keys: who gets in, what a client may do and see, and that no secret is kept or told anywhere."""

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import text
from werkzeug.test import TestResponse

from config.settings import Settings
from tests.support.processes import REPOSITORY
from tests.support.waiting import wait_until
from tests.support.web import Web, assert_is_problem
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.states import State

UNKNOWN = "0199c5a0-0000-7000-8000-000000000000"
KEYED = [
    ("GET", "/v1/operations"),
    ("GET", "/v1/operations/echo"),
    ("GET", "/v1/operations/nothing"),
    ("POST", "/v1/operations/echo/jobs"),
    ("POST", "/v1/operations/nothing/jobs"),
    ("POST", "/v1/operations/echo/jobs/bulk"),
    ("POST", "/v1/operations/nothing/jobs/bulk"),
    ("POST", "/v1/operations/echo/jobs/batch"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs?limit=x"),
    ("POST", "/v1/jobs/cancel"),
    ("POST", "/v1/jobs/retry"),
    ("GET", f"/v1/jobs/{UNKNOWN}"),
    ("GET", f"/v1/jobs/{UNKNOWN}/result"),
    ("GET", f"/v1/jobs/{UNKNOWN}/events"),
    ("POST", f"/v1/jobs/{UNKNOWN}/cancel"),
    ("POST", f"/v1/jobs/{UNKNOWN}/retry"),
    ("DELETE", f"/v1/jobs/{UNKNOWN}"),
    ("GET", "/v1/downstreams"),
    ("GET", "/v1/downstreams/sample"),
    ("PATCH", "/v1/downstreams/sample"),
    ("GET", "/metrics"),
]
OPERATORS_ONLY = [
    ("GET", "/metrics"),
    ("GET", "/v1/downstreams"),
    ("GET", "/v1/downstreams/sample"),
    ("PATCH", "/v1/downstreams/sample"),
    ("POST", "/v1/jobs/cancel"),
    ("POST", "/v1/jobs/retry"),
]
OF_A_JOB = [("GET", ""), ("GET", "/result"), ("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")]


@pytest.fixture
def keyed(tmp_path: Path, database_url: str) -> Iterator[Web]:
    """A face that lets nobody in without a key."""
    face = Web(tmp_path, database_url, auth="keys")
    yield face
    face.close()


def bearer(secret: str) -> dict[str, str]:
    """The header of this key."""
    return {"Authorization": f"Bearer {secret}"}


def new_key(web: Web, client: str = "one", role: Role = Role.CLIENT, expires_in: timedelta | None = None) -> str:
    """A key's secret."""
    return KeyStore(web.database).create(client, name="of a test", role=role, expires_in=expires_in)[1]


def submit(web: Web, secret: str, **headers: str) -> TestResponse:
    """A submit with this key."""
    return web.submit(headers={**bearer(secret), **{name.replace("_", "-"): value for name, value in headers.items()}})


def assert_is_unauthorized(answer: TestResponse) -> None:
    """401, and how to do better."""
    assert_is_problem(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), KEYED)
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer nonsense", "Bearer \u00fc", "Basic dXNlcjpwYXNz", "Digest a=b", "x"],
)
def test_without_a_good_key_every_route_is_a_401_that_tells_nothing_else(
    keyed: Web, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    assert_is_unauthorized(keyed.client.open(path, method=method, headers=headers, data=b"{", content_type="x/y"))
    assert keyed.count() == 0


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/docs", "/openapi.json"])
def test_health_and_the_description_are_open(keyed: Web, path: str) -> None:
    assert keyed.client.get(path).status_code == 200


def test_a_good_key_gets_in_however_its_scheme_is_written(keyed: Web) -> None:
    secret = new_key(keyed)
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert keyed.client.get("/v1/operations", headers={"Authorization": f"{scheme} {secret}"}).status_code == 200
    assert_is_unauthorized(keyed.client.get("/v1/operations", headers=bearer(secret[:-1])))
    assert_is_unauthorized(keyed.client.get("/v1/operations", headers=bearer(secret.upper())))
    assert_is_unauthorized(keyed.client.get(f"/v1/operations?access_token={secret}"))


def test_a_key_that_has_expired_is_a_401(keyed: Web) -> None:
    secret = new_key(keyed, expires_in=timedelta(milliseconds=1))
    time.sleep(0.01)
    assert_is_unauthorized(submit(keyed, secret))
    assert submit(keyed, new_key(keyed, expires_in=timedelta(days=1))).status_code == 202


def test_a_revoked_key_is_a_401_within_about_two_seconds(keyed: Web) -> None:
    store = KeyStore(keyed.database)
    key_id, secret = store.create("one", name="", role=Role.CLIENT)
    assert submit(keyed, secret).status_code == 202

    assert store.revoke(key_id)

    wait_until(
        lambda: keyed.client.get("/v1/jobs", headers=bearer(secret)).status_code == 401,
        description="the revoked key is refused",
        timeout_seconds=3,
    )
    assert not store.revoke(key_id)
    assert store.count() == 0


@pytest.mark.parametrize(("method", "path"), OPERATORS_ONLY)
def test_what_is_for_operators_is_a_403_for_a_client_and_not_for_an_operator(
    keyed: Web, method: str, path: str
) -> None:
    client, operator = new_key(keyed), new_key(keyed, "boss", Role.OPERATOR)
    assert_is_problem(keyed.client.open(path, method=method, headers=bearer(client), json={}), 403, "forbidden")
    assert keyed.client.open(path, method=method, headers=bearer(operator), json={}).status_code in (200, 404, 422)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED, State.FAILED])
@pytest.mark.parametrize(("method", "what"), OF_A_JOB)
def test_a_job_of_another_client_is_a_404_in_every_route_and_stays_as_it_is(
    keyed: Web, method: str, what: str, state: State
) -> None:
    one, other = new_key(keyed, "one"), new_key(keyed, "other")
    job_id = submit(keyed, one).get_json()["id"]
    if state is State.RUNNING:
        keyed.claim(job_id)
    elif state is State.SUCCEEDED:
        keyed.succeed(job_id, b"1", is_json=True)
    elif state is State.FAILED:
        keyed.store.workers.fail(keyed.claim(job_id), {"code": "operation_error", "message": ""}, call_seconds=None)
    before = keyed.row(job_id)

    answer = keyed.client.open(f"/v1/jobs/{job_id}{what}", method=method, headers=bearer(other))

    theirs = assert_is_problem(answer, 404, "unknown-job")
    nobodys = keyed.client.open(f"/v1/jobs/{UNKNOWN}{what}", method=method, headers=bearer(other)).get_json()
    assert theirs["detail"].replace(job_id, "") == nobodys["detail"].replace(UNKNOWN, "")
    assert set(answer.headers.keys()) == set(
        keyed.client.open(f"/v1/jobs/{UNKNOWN}{what}", method=method, headers=bearer(other)).headers.keys()
    )
    assert (keyed.row(job_id), keyed.count()) == (before, 1)


def test_lists_have_ones_own_jobs_and_an_operator_has_all(keyed: Web) -> None:
    one, other, boss = new_key(keyed, "one"), new_key(keyed, "other"), new_key(keyed, "boss", Role.OPERATOR)
    own = submit(keyed, one).get_json()["id"]
    theirs = submit(keyed, other).get_json()["id"]

    def listed(secret: str, query: str = "") -> list[str]:
        answer = keyed.client.get(f"/v1/jobs{query}", headers=bearer(secret)).get_json()
        return [job["id"] for job in answer["jobs"]]

    assert listed(one) == [own]
    assert listed(other) == [theirs]
    assert listed(other, f"?cursor={theirs}") == []
    assert listed(boss) == [theirs, own]
    assert keyed.read(own).status_code == 401
    assert keyed.client.get(f"/v1/jobs/{own}", headers=bearer(boss)).status_code == 202


def test_only_an_operator_lists_a_client_by_name(keyed: Web) -> None:
    one, other, boss = new_key(keyed, "one"), new_key(keyed, "other"), new_key(keyed, "boss", Role.OPERATOR)
    own, theirs = (submit(keyed, secret).get_json() for secret in (one, other))
    assert own["client"] != theirs["client"]

    def listed(secret: str, query: str) -> TestResponse:
        return keyed.client.get(f"/v1/jobs?{query}", headers=bearer(secret))

    for document in (own, theirs):
        found = listed(boss, f"client={document['client']}").get_json()["jobs"]
        assert [(job["id"], job["client"]) for job in found] == [(document["id"], document["client"])]
        problem = assert_is_problem(listed(one, f"client={document['client']}"), 403, "forbidden")
        assert problem["detail"].startswith("client: ")
    assert listed(boss, "client=nobody").get_json()["jobs"] == []
    assert_is_problem(listed(one, "client="), 403, "forbidden")
    assert [job["id"] for job in listed(one, "downstream=echo").get_json()["jobs"]] == [own["id"]]


def test_two_keys_of_a_client_see_the_same_jobs(keyed: Web) -> None:
    first, second = new_key(keyed, "one"), new_key(keyed, "one")
    job_id = submit(keyed, first).get_json()["id"]
    assert keyed.client.get(f"/v1/jobs/{job_id}", headers=bearer(second)).status_code == 202


def test_an_idempotency_key_is_its_clients_own(keyed: Web) -> None:
    one, other = new_key(keyed, "one"), new_key(keyed, "other")
    ids = [submit(keyed, secret, Idempotency_Key="same").get_json()["id"] for secret in (one, other, one)]
    assert ids[0] == ids[2] != ids[1]


def test_a_retry_by_an_operator_stays_its_clients_job(keyed: Web) -> None:
    one, boss = new_key(keyed, "one"), new_key(keyed, "boss", Role.OPERATOR)
    job_id = submit(keyed, one).get_json()["id"]
    keyed.client.post(f"/v1/jobs/{job_id}/cancel", headers=bearer(boss))
    again = keyed.client.post(f"/v1/jobs/{job_id}/retry", headers=bearer(boss)).get_json()["id"]
    assert keyed.client.get(f"/v1/jobs/{again}", headers=bearer(one)).status_code == 202


def test_no_secret_is_kept_told_or_logged(keyed: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret, bad = new_key(keyed), "tg_" + "bad" * 14
    idempotency_key = "a-key-of-a-caller"
    answers = [
        submit(keyed, secret, Idempotency_Key=idempotency_key),
        submit(keyed, secret, Idempotency_Key=idempotency_key, Job_Timeout="77"),
        submit(keyed, bad),
        keyed.client.get("/v1/jobs", headers=bearer(secret)),
        keyed.client.get("/v1/downstreams", headers=bearer(secret)),
        keyed.client.get("/v1/nothing", headers=bearer(secret)),
    ]
    assert secret not in repr(KeyStore(keyed.database).list())
    with keyed.database.transaction() as connection:
        connection.execute(text("ALTER TABLE bodies RENAME TO gone"))
    answers.append(submit(keyed, secret, Idempotency_Key=idempotency_key + "-2"))
    assert answers[-1].status_code >= 500
    with keyed.database.transaction() as connection:
        connection.execute(text("ALTER TABLE keys RENAME TO lost"))
    answers.append(submit(keyed, bad + "x"))
    assert answers[-1].status_code >= 500
    keyed.close()

    file = Path(str(keyed.database.engine.url.database))
    files = [each.read_bytes() for each in file.parent.glob(f"{file.name}*")]
    assert any(b"of a test" in content for content in files), "this is where keys are kept"
    for word in (secret, secret[3:], bad):
        assert not any(word.encode() in content for content in files)
        assert word not in caplog.text
        for answer in answers:
            assert word not in answer.get_data(as_text=True) + str(answer.headers)
    assert idempotency_key not in caplog.text


def test_a_secret_has_256_random_bits(keyed: Web) -> None:
    secrets = {new_key(keyed) for _ in range(20)}
    assert len(secrets) == 20
    assert all(len(secret) == len("tg_") + 43 for secret in secrets)


# The command


def command(database_url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m webapp.keys` as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "webapp.keys", *words],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "TIDEGATE_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_makes_lists_and_revokes(keyed: Web, database_url: str) -> None:
    made = command(database_url, "create", "shop", "--name", "checkout", "--expires", "90d")
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    assert "shown this once" in made.stderr
    assert secret not in made.stderr
    assert submit(keyed, secret).status_code == 202

    shown = command(database_url, "list")
    (line,) = shown.stdout.splitlines()
    key_id = line.split()[0]
    assert key_id in made.stderr
    for word in ("shop", "client", "checkout", "until"):
        assert word in line
    assert secret not in shown.stdout

    assert command(database_url, "revoke", key_id).returncode == 0
    assert "revoked" in command(database_url, "list").stdout
    again = command(database_url, "revoke", key_id)
    assert again.returncode != 0
    assert key_id in again.stderr

    boss = command(database_url, "create", "boss", "--role", "operator", "--partitions", "any").stdout.strip()
    assert keyed.client.get("/v1/downstreams", headers=bearer(boss)).status_code == 200
    assert [key.names_shared for key in KeyStore(keyed.database).list()] == [True, False]
    assert "any partition" in command(database_url, "list").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("create",), "CLIENT"),
        (("create", ""), "CLIENT"),
        (("create", "x" * 101), "CLIENT"),
        (("create", "x", "--name", "y" * 101), "--name"),
        (("create", "x", "--role", "king"), "king"),
        (("create", "x", "--expires", "soon"), "soon"),
        (("create", "x", "--expires", "0s"), "0s"),
        (("revoke", "nothing"), "nothing"),
    ],
)
def test_a_wrong_command_says_what_is_wrong_and_makes_nothing(
    keyed: Web, database_url: str, words: tuple[str, ...], said: str
) -> None:
    answer = command(database_url, *words)
    assert answer.returncode != 0
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""
    assert KeyStore(keyed.database).list() == []


def test_without_a_database_the_command_says_how_to_make_one(tmp_path: Path) -> None:
    for file in (tmp_path / "nowhere" / "new.db", tmp_path / "new.db"):
        answer = command(f"sqlite:///{file}", "create", "shop")
        assert answer.returncode != 0
        assert "migrations.upgrade" in answer.stderr
        assert "Traceback" not in answer.stderr


# The open door


ANY = "0.0.0.0"  # noqa: S104 - what must be refused


@pytest.mark.parametrize("host", [ANY, "::", "192.168.1.1", "example.com", "", "10.0.0.1", "127.evil.example"])
def test_without_keys_only_loopback_is_served(host: str) -> None:
    with pytest.raises(ValidationError, match="TIDEGATE_AUTH=keys"):
        Settings(_env_file=None, host=host)
    assert Settings(_env_file=None, host=host, auth="keys").auth == "keys"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "[::1]"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert Settings(_env_file=None, host=host).auth == "off"


def test_a_start_with_an_open_door_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    started = subprocess.run(
        [sys.executable, "-m", "embedded"],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "TIDEGATE_DATA": str(tmp_path), "TIDEGATE_HOST": ANY},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert started.returncode != 0
    said = started.stdout + started.stderr
    assert "TIDEGATE_AUTH=keys" in said
    assert "tidegate keys create" in said
    assert "Traceback" not in said


def test_a_key_for_metrics_reads_them_and_nothing_else(keyed: Web) -> None:
    """Every route that there is, so that one that is added tomorrow is closed to it, too."""
    headers = {"Authorization": f"Bearer {new_key(keyed, 'prometheus', Role.METRICS)}"}
    answer = keyed.client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert "tidegate_database_up 1.0" in answer.get_data(as_text=True)
    open_to_all = {"health.live", "health.ready", "docs", "page", "metrics.read", "scale.read"}
    asked = 0
    for rule in keyed.app.url_map.iter_rules():
        if {rule.endpoint, rule.endpoint.partition(".")[0]} & open_to_all:
            continue
        path = rule.rule
        for name in rule.arguments:
            path = path.replace(f"<uuid:{name}>", "0199c5a0-0000-7000-8000-000000000000").replace(f"<{name}>", "echo")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            refused = keyed.client.open(path, method=method, headers=headers, json=1 if method == "POST" else None)
            assert_is_problem(refused, 403, "forbidden")
            asked += 1
    assert asked > 20


@pytest.mark.parametrize(("role", "status"), [(Role.OPERATOR, 200), (Role.METRICS, 200), (Role.CLIENT, 403)])
def test_who_reads_metrics(keyed: Web, role: Role, status: int) -> None:
    headers = {"Authorization": f"Bearer {new_key(keyed, role=role)}"}
    assert keyed.client.get("/metrics", headers=headers).status_code == status
    assert_is_problem(keyed.client.get("/metrics"), 401, "unauthorized")
