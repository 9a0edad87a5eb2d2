"""Whether something was recorded is said only when it is known: an answer that was lost is told as that.

The database does what it is asked and its answer does not come; or it stops a statement itself, and then it was not
done.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url
from werkzeug.test import TestResponse

from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from tests.support.web import Web, assert_is_problem
from tests.support.webhooks import make_secret
from tidegate.database.connection import Database
from tidegate.database.schema import downstreams, webhook_secrets
from tidegate.database.statement import required
from tidegate.states import State
from webapp.app import create_app

_PATIENCE = timedelta(seconds=1)


class Lossy:
    """A gateway whose way to its database may lose answers; `other` has a way of its own."""

    def __init__(self, folder: Path, url: str, proxy: Proxy) -> None:
        self.proxy = proxy
        self.other = Web(folder, url)
        self.other.declare()
        through = make_url(url).set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        self.database = Database(through, patience=_PATIENCE)
        self.app = create_app(self.other.settings, self.database)
        self.client = self.app.test_client()

    def close(self) -> None:
        self.proxy.forward()
        self.database.close()
        self.other.close()


@pytest.fixture
def lossy(tmp_path: Path, postgresql_url: str) -> Iterator[Lossy]:
    port = make_url(postgresql_url).port or 5432
    with Proxy(port) as proxy, closing(Lossy(tmp_path, postgresql_url, proxy)) as found:
        answer = found.client.get("/v1/downstreams")
        assert answer.status_code == 200, answer.text
        yield found


Ask = Callable[[], TestResponse]
Write = tuple[bytes | tuple[bytes, bytes], Ask, Callable[[], bool]]
"""What is said to the database at last, after what if that is needed; the request; and whether it was done."""


def submit(lossy: Lossy) -> Write:
    return b"INSERT INTO jobs", lambda: lossy.client.post(_JOBS, json=1), lambda: lossy.other.count() == 1


def submit_under_a_key(lossy: Lossy) -> Write:
    key = {"Idempotency-Key": "k"}
    return b"COMMIT", lambda: lossy.client.post(_JOBS, json=1, headers=key), lambda: lossy.other.count() == 1


def submit_many(lossy: Lossy) -> Write:
    items = [{"input": 1}, {"input": 2}]
    return b"COMMIT", lambda: lossy.client.post(f"{_JOBS}/bulk", json=items), lambda: lossy.other.count() == 2


def cancel(lossy: Lossy) -> Write:
    job_id = lossy.other.accepted()
    return (
        b"UPDATE jobs",
        lambda: lossy.client.post(f"/v1/jobs/{job_id}/cancel"),
        lambda: lossy.other.row(job_id).state == "cancelled",
    )


def cancel_many(lossy: Lossy) -> Write:
    job_id = lossy.other.accepted()
    return (
        b"UPDATE jobs",
        lambda: lossy.client.post("/v1/jobs/cancel", json={"operation": "echo"}),
        lambda: lossy.other.row(job_id).state == "cancelled",
    )


def retry(lossy: Lossy) -> Write:
    job_id = lossy.other.job_in(State.CANCELLED)
    return (
        b"INSERT INTO jobs",
        lambda: lossy.client.post(f"/v1/jobs/{job_id}/retry"),
        lambda: lossy.other.count() == 2,
    )


def retry_many(lossy: Lossy) -> Write:
    lossy.other.job_in(State.CANCELLED)
    ask = {"operation": "echo"}
    last = b"COMMIT", b"INSERT INTO jobs"  # for the list of those that are meant ends with one, too
    return last, lambda: lossy.client.post("/v1/jobs/retry", json=ask), lambda: lossy.other.count() == 2


def delete(lossy: Lossy) -> Write:
    job_id = lossy.other.job_in(State.CANCELLED)
    return b"COMMIT", lambda: lossy.client.delete(f"/v1/jobs/{job_id}"), lambda: lossy.other.count() == 0


def pause(lossy: Lossy) -> Write:
    return b"COMMIT", lambda: lossy.client.patch(_LANE, json={"paused": True}), lambda: is_paused(lossy)


def pause_and_look(lossy: Lossy) -> Write:
    """The change is done and committed; what is lost is the look at it."""
    last = b"FROM attempts", b"UPDATE downstreams"  # for it looks before, too
    return last, lambda: lossy.client.patch(_LANE, json={"paused": True}), lambda: is_paused(lossy)


def make_a_secret(lossy: Lossy) -> Write:
    lossy.client.post("/v1/webhook-secrets")  # its first one takes a while, for the keys are loaded
    return b"COMMIT", lambda: lossy.client.post("/v1/webhook-secrets"), lambda: len(secrets(lossy)) == 2


def end_a_secret(lossy: Lossy) -> Write:
    make_secret(lossy.other.store)
    ((secret_id, _),) = secrets(lossy)
    return (
        b"UPDATE webhook_secrets",
        lambda: lossy.client.delete(f"/v1/webhook-secrets/{secret_id}"),
        lambda: secrets(lossy)[0][1] is not None,
    )


_JOBS = "/v1/operations/echo/jobs"
_LANE = "/v1/downstreams/sample"


def is_paused(lossy: Lossy) -> bool:
    return bool(
        required(lossy.other.database.fetch_one(select(downstreams.c.paused).where(downstreams.c.name == "sample")))[0]
    )


def secrets(lossy: Lossy) -> list[tuple[str, object]]:
    with lossy.other.database.transaction() as connection:
        rows = connection.execute(select(webhook_secrets.c.id, webhook_secrets.c.signs_until))
        return [(row.id, row.signs_until) for row in rows]


@pytest.mark.parametrize(
    "write",
    [
        *(submit, submit_under_a_key, submit_many, cancel, cancel_many, retry, retry_many, delete),
        *(pause, pause_and_look, make_a_secret, end_a_secret),
    ],
)
def test_a_write_whose_answer_was_lost_is_told_as_that(lossy: Lossy, write: Callable[[Lossy], Write]) -> None:
    last, ask, is_done = write(lossy)
    lossy.proxy.swallow_answers(*((last,) if isinstance(last, bytes) else last))

    answer = ask()

    document = assert_is_problem(answer, 503, "outcome-unknown")
    assert "may have been recorded" in document["detail"]
    assert "nothing was recorded" not in document["detail"]
    assert int(answer.headers["Retry-After"]) >= 1
    wait_until(is_done, description="it was done all the same")


def test_under_its_key_a_repeat_makes_no_second_job(lossy: Lossy) -> None:
    _, ask, is_done = submit_under_a_key(lossy)
    lossy.proxy.swallow_answers(of=b"COMMIT")
    assert "under the same Idempotency-Key" in assert_is_problem(ask(), 503, "outcome-unknown")["detail"]
    wait_until(is_done, description="it was done all the same")

    lossy.proxy.forward()

    wait_until(lambda: ask().status_code == 202, description="a repeat is answered")
    assert lossy.other.count() == 1


@pytest.mark.parametrize("write", [submit, submit_under_a_key, submit_many, cancel, delete, pause])
def test_a_database_that_nobody_reaches_recorded_nothing(lossy: Lossy, write: Callable[[Lossy], Write]) -> None:
    _, ask, is_done = write(lossy)
    lossy.proxy.refuse()
    lossy.database.engine.dispose()  # else what became of a statement that a dead connection took is not known

    document = assert_is_problem(ask(), 503, "unavailable")

    assert "nothing was recorded" in document["detail"]
    assert not is_done()


def test_a_read_whose_answer_was_lost_is_only_unavailable(lossy: Lossy) -> None:
    job_id = lossy.other.accepted()
    lossy.proxy.swallow_answers(of=b"FROM jobs")
    document = assert_is_problem(lossy.client.get(f"/v1/jobs/{job_id}"), 503, "unavailable")
    assert "recorded" not in document["detail"]


def test_a_question_before_the_first_write_leaves_nothing_unknown(lossy: Lossy) -> None:
    """Also at the end of the transaction in which it had its time limit."""
    _, ask, _ = retry_many(lossy)
    lossy.proxy.swallow_answers(of=b"COMMIT")
    assert "nothing was recorded" in assert_is_problem(ask(), 503, "unavailable")["detail"]
    assert lossy.other.count() == 1


@pytest.mark.parametrize("write", [submit, submit_many])
def test_a_submit_that_waits_for_a_lock_is_stopped_by_the_server_and_recorded_nothing(
    lossy: Lossy, write: Callable[[Lossy], Write]
) -> None:
    """A migration, a backup: whoever holds it, the server knows that it gave up, and goes on with nothing later."""
    _, ask, _ = write(lossy)
    url = make_url(lossy.other.database.engine.url)
    with psycopg.connect(host=url.host, port=url.port, user=url.username, dbname=url.database) as holder:
        holder.execute("LOCK TABLE bodies IN SHARE MODE")
        assert "nothing was recorded" in assert_is_problem(ask(), 503, "unavailable")["detail"]
        assert lossy.client.get("/health/ready").status_code == 200, "others are served"
        holder.rollback()
    wait_until(lambda: waiting(lossy) == 0, description="nobody waits in the server any more")
    assert lossy.other.count() == 0


def waiting(lossy: Lossy) -> int:
    with lossy.other.database.transaction() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar_one())
