"""Access tokens of the whole cluster: fetched once, kept sealed, renewed once after a 401. The token server is real."""

import json
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.support.jobs import (
    LANE,
    attempts_of,
    downstreams_of,
    open_lane,
    outcomes_of,
    release,
    release_one,
    row_of,
    submit,
)
from tests.support.oauth_server import CLIENT_ID, CLIENT_SECRET, Answer, OAuthServer, serving_oauth
from tests.support.processes import free_port
from tests.support.running import runner_of
from tests.support.waiting import wait_until
from tidegate import clock
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, oauth_tokens
from tidegate.database.time import database_now
from tidegate.execution.handoff import SilentHandoff
from tidegate.execution.sealing import Sealer
from tidegate.execution.token_keeper import TokenKeeper
from tidegate.execution.token_store import TokenStore
from tidegate.jobs.job import Call
from tidegate.operations.connections import Way, connections_by
from tidegate.operations.http_operation import HttpOperation
from tidegate.operations.oauth import AccessToken, NoTokenError, OAuth
from tidegate.operations.retry import RetryPolicy
from tidegate.operations.token_request import fetch_token
from tidegate.stores import Store

KEY, OTHER_KEY = secrets.token_bytes(32), secrets.token_bytes(32)
LIFE = timedelta(hours=1)


@pytest.fixture
def server() -> Iterator[OAuthServer]:
    with serving_oauth() as running:
        yield running


@pytest.fixture
def oauth(server: OAuthServer) -> OAuth:
    return OAuth(token_url=f"{server.url}/token", client_id=CLIENT_ID, client_secret=CLIENT_SECRET, scope="a b")


def keeper_of(store: Store, *keys: bytes) -> TokenKeeper:
    """What a worker process has; without keys nothing is shared."""
    return TokenKeeper(store.tokens, Sealer(keys) if keys else None)


def token_of(keeper: TokenKeeper, oauth: OAuth, *, seconds: float = 10) -> AccessToken:
    ends = clock.monotonic() + seconds
    return keeper.token(oauth, partial(fetch_token, oauth, connections_by(Way())), lambda: ends - clock.monotonic())


def rows(store: Store) -> list[Any]:
    return list(store.database.fetch_all(select(oauth_tokens)))


def change(store: Store, **values: Any) -> None:
    assert store.database.execute(update(oauth_tokens).values(**values)) == 1


def grow_old(store: Store, seconds: float = 60) -> None:
    """Lets the kept token have been fetched so long ago; processes that have it already don't know."""
    (row,) = rows(store)
    change(store, fetched_at=row.fetched_at - timedelta(seconds=seconds))


def test_processes_that_meet_fetch_one_token(
    server: OAuthServer, oauth: OAuth, store: Store, database_url: str
) -> None:
    server.delay_seconds = 0.2
    with closing(Database(database_url)) as another:
        keepers = [keeper_of(store, KEY), TokenKeeper(TokenStore(another), Sealer([KEY]))]
        with ThreadPoolExecutor(20) as threads:
            found = list(threads.map(lambda number: token_of(keepers[number % 2], oauth).text, range(20)))

    assert (len(server.asked), len(set(found))) == (1, 1)


def test_a_token_is_sealed_in_the_database_and_its_secret_is_not_there(
    server: OAuthServer, oauth: OAuth, store: Store
) -> None:
    token = token_of(keeper_of(store, KEY), oauth)

    (row,) = rows(store)
    shown = repr(row).encode() + row.token + row.name
    for secret in (token.text, CLIENT_SECRET, CLIENT_ID, server.url):
        assert secret.encode() not in shown
    assert abs(row.expires_at - row.fetched_at - LIFE) < timedelta(milliseconds=1)
    assert row.lease_until is None


def test_without_a_key_each_process_has_a_token_of_its_own(server: OAuthServer, oauth: OAuth, store: Store) -> None:
    for keeper in (keeper_of(store), keeper_of(store)):
        assert token_of(keeper, oauth) is token_of(keeper, oauth)

    assert (len(server.asked), rows(store)) == (2, [])


def test_other_credentials_have_another_token(server: OAuthServer, oauth: OAuth, store: Store) -> None:
    keeper = keeper_of(store, KEY)
    for each in (oauth, replace(oauth, scope=""), replace(oauth, token_url=f"{server.url}/token/2")):
        token_of(keeper, each)

    assert (len(server.asked), len(rows(store))) == (3, 3)


def test_a_token_that_is_over_is_fetched_anew_once(server: OAuthServer, oauth: OAuth, store: Store) -> None:
    token_of(keeper_of(store, KEY), oauth)
    grow_old(store, seconds=3580)
    change(store, expires_at=database_now(timedelta(seconds=20)))

    found = {token_of(keeper_of(store, KEY), oauth).text for _ in range(2)}

    assert found == {server.all_tokens[1]}
    assert len(server.asked) == 2


def test_a_process_asks_again_when_the_token_in_its_memory_is_over(
    server: OAuthServer, oauth: OAuth, store: Store
) -> None:
    server.life = 0.5
    keeper = keeper_of(store)
    first = token_of(keeper, oauth)
    assert token_of(keeper, oauth) is first

    wait_until(lambda: not first.is_good, description="the token is nearly over")
    assert token_of(keeper, oauth) != first


def test_a_new_key_opens_what_the_old_one_sealed(server: OAuthServer, oauth: OAuth, store: Store) -> None:
    first = token_of(keeper_of(store, KEY), oauth)

    assert token_of(keeper_of(store, OTHER_KEY, KEY), oauth).text == first.text
    assert len(server.asked) == 1


def test_a_token_whose_key_is_lost_is_fetched_anew(server: OAuthServer, oauth: OAuth, store: Store) -> None:
    token_of(keeper_of(store, KEY), oauth)

    found = {token_of(keeper_of(store, OTHER_KEY), oauth).text for _ in range(2)}

    assert found == {server.all_tokens[1]}


@pytest.mark.parametrize("sealed", [b"", b"x", b"x" * 100])
def test_what_is_no_sealed_token_is_fetched_anew(
    server: OAuthServer, oauth: OAuth, store: Store, sealed: bytes
) -> None:
    token_of(keeper_of(store, KEY), oauth)
    change(store, token=sealed)

    assert token_of(keeper_of(store, KEY), oauth).text == server.all_tokens[1]


def test_a_sealed_token_opens_nothing_in_another_row(server: OAuthServer, oauth: OAuth, store: Store) -> None:
    token_of(keeper_of(store, KEY), oauth)
    other = replace(oauth, scope="other")
    change(store, name=other.name)

    assert token_of(keeper_of(store, KEY), other).text == server.all_tokens[1]


def test_a_process_that_died_while_it_fetched_holds_nobody_up_for_long(
    server: OAuthServer, oauth: OAuth, store: Store
) -> None:
    assert store.tokens.lease(oauth.name, after=None, lasts=timedelta(seconds=1.5)) is not None

    with pytest.raises(NoTokenError, match="in time"):
        token_of(keeper_of(store, KEY), oauth, seconds=0.3)
    assert server.asked == []
    assert token_of(keeper_of(store, KEY), oauth, seconds=5).text == server.all_tokens[0]


def test_a_failure_is_told_to_all_that_wait_and_the_next_may_try_at_once(
    server: OAuthServer, oauth: OAuth, store: Store
) -> None:
    server.instead, server.delay_seconds = Answer(status=500, body=b""), 0.3
    keeper = keeper_of(store, KEY)
    failures: list[str] = []

    def ask() -> None:
        try:
            token_of(keeper, oauth)
        except NoTokenError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failures, server.refused) == (["the token server answered 500"] * 5, 1)

    server.instead = None
    assert token_of(keeper, oauth, seconds=1).text == server.all_tokens[0]


def test_whose_time_is_over_takes_nobody_elses(server: OAuthServer, oauth: OAuth, store: Store) -> None:
    server.delay_seconds = 0.6
    keeper = keeper_of(store, KEY)
    with ThreadPoolExecutor(2) as threads:
        short = threads.submit(token_of, keeper, oauth, seconds=0.3)
        wait_until(lambda: rows(store), description="it has the lease")
        long = threads.submit(token_of, keeper, oauth, seconds=5)

        with pytest.raises(NoTokenError, match="in time"):
            short.result()
        assert long.result().text == server.all_tokens[-1]


def test_a_database_that_is_away_keeps_no_call_from_its_token(server: OAuthServer, oauth: OAuth) -> None:
    away = Database(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none", patience=timedelta(seconds=1))
    with closing(away):
        assert token_of(TokenKeeper(TokenStore(away), Sealer([KEY])), oauth).text == server.all_tokens[0]


def test_rows_of_credentials_that_are_no_longer_used_go(server: OAuthServer, oauth: OAuth, store: Store) -> None:
    token_of(keeper_of(store, KEY), oauth)
    change(store, expires_at=database_now(-timedelta(days=2)))

    token_of(keeper_of(store, KEY), replace(oauth, scope="other"))

    assert [row.name for row in rows(store)] == [replace(oauth, scope="other").name]


def operation_of(server: OAuthServer, oauth: OAuth) -> HttpOperation:
    minute = timedelta(minutes=1)
    return HttpOperation(
        name="made",
        url=f"{server.url}/api",
        downstream=LANE,
        timeout=minute,
        attempt_timeout=minute,
        retry=RetryPolicy(attempts=2),
        oauth=oauth,
    )


def run_once(store: Store, server: OAuthServer, oauth: OAuth, keeper: TokenKeeper, job_id: str) -> None:
    runner = runner_of(store, operation_of(server, oauth), tokens=keeper)
    assert runner.run(job_id, release_one(store).fence)


@pytest.mark.parametrize("keys", [(KEY,), ()])
def test_a_call_that_is_refused_with_401_is_made_again_with_another_token_and_counts_no_attempt(
    server: OAuthServer, oauth: OAuth, store: Store, keys: tuple[bytes, ...]
) -> None:
    open_lane(store, rates=("100/s",))
    server.life = 2
    keeper = keeper_of(store, *keys)
    old = token_of(keeper, oauth)
    wait_until(lambda: not old.is_young, description="the token is no longer young")
    server.revoke()
    server.life = 3600
    job_id = submit(store, operation="made")

    run_once(store, server, oauth, keeper, job_id)
    row, (attempt,) = row_of(store, job_id), attempts_of(store, job_id)
    assert (row.state, row.attempt, attempt.outcome) == ("queued", 0, "token renewed")
    assert row.run_at <= attempt.ended_at, "it is due at once"
    assert attempt.claimed_at <= attempt.call_started_at <= attempt.ended_at

    run_once(store, server, oauth, keeper, job_id)
    row = row_of(store, job_id)
    assert (row.state, row.attempt, outcomes_of(store, job_id)) == ("succeeded", 1, ["token renewed", "succeeded"])
    assert (server.calls, len(server.asked)) == ([401, 200], 2)
    (lane,) = downstreams_of(store)
    assert sum(run.calls for run in lane.pace.log) == 2, "both calls went out, and each had a slot"


def test_calls_that_were_out_with_the_refused_token_throw_the_next_one_not_away(
    server: OAuthServer, oauth: OAuth, store: Store
) -> None:
    open_lane(store)
    token_of(keeper_of(store, KEY), oauth)
    grow_old(store)
    keepers = [keeper_of(store, KEY) for _ in range(3)]
    for keeper in keepers:
        token_of(keeper, oauth)
    server.revoke()

    jobs = [submit(store, operation="made") for _ in range(1)]
    for keeper in keepers:  # each has the old token in its memory still
        run_once(store, server, oauth, keeper, jobs[0])
        if row_of(store, jobs[0]).state == "queued":
            run_once(store, server, oauth, keeper, jobs[0])
        assert row_of(store, jobs[0]).state == "succeeded"
        jobs = [submit(store, operation="made")]

    assert len(server.asked) == 2, "one renewal for all of them"


class ToldEnds(SilentHandoff):
    """Keeps what followers would be told."""

    def __init__(self) -> None:
        self.ended: list[Call] = []

    def notify_call_ended(self, ended: Call) -> None:
        self.ended.append(ended)


def test_the_end_of_a_call_that_is_handed_back_is_told_to_its_follower(
    server: OAuthServer, oauth: OAuth, store: Store
) -> None:
    open_lane(store, call_seconds=0.1, concurrency=1)
    token_of(keeper_of(store, KEY), oauth)
    grow_old(store)
    server.revoke()
    for _ in range(2):
        submit(store, operation="made")
    first, second = release(store)
    assert attempts_of(store, second.job_id)[0].follows_job == first.job_id
    handoff = ToldEnds()

    runner = runner_of(store, operation_of(server, oauth), tokens=keeper_of(store, KEY), handoff=handoff)
    assert runner.run(first.job_id, first.fence)

    assert outcomes_of(store, first.job_id) == ["token renewed"]
    assert handoff.ended == [(first.job_id, first.fence)]
    assert runner.run(second.job_id, second.fence)
    assert row_of(store, second.job_id).state == "succeeded"


def test_refused_again_with_a_new_token_the_job_fails(server: OAuthServer, oauth: OAuth, store: Store) -> None:
    open_lane(store)
    token_of(keeper_of(store, KEY), oauth)
    grow_old(store)
    server.refuses_all = True
    job_id = submit(store, operation="made")

    run_once(store, server, oauth, keeper_of(store, KEY), job_id)
    run_once(store, server, oauth, keeper_of(store, KEY), job_id)

    row = row_of(store, job_id)
    assert (row.state, row.attempt, outcomes_of(store, job_id)) == ("failed", 1, ["token renewed", "failed"])
    assert json.loads(row.error)["downstream_status"] == 401
    assert all(token not in row.error for token in server.all_tokens)


def test_however_old_its_next_token_a_job_is_not_renewed_for_ever(
    server: OAuthServer, oauth: OAuth, store: Store
) -> None:
    """A paced job may wait so long between its calls that each token is old again."""
    open_lane(store)
    token_of(keeper_of(store, KEY), oauth)
    server.refuses_all = True
    job_id = submit(store, operation="made")
    for _ in range(2):
        grow_old(store) if rows(store)[0].token else token_of(keeper_of(store, KEY), oauth)
        grow_old(store)
        run_once(store, server, oauth, keeper_of(store, KEY), job_id)
        long_before = attempts_of(store, job_id)[0].ended_at - timedelta(seconds=120)
        store.database.execute(update(attempts).values(ended_at=long_before))

    assert (row_of(store, job_id).state, outcomes_of(store, job_id)) == ("failed", ["token renewed", "failed"])


@pytest.mark.parametrize("keys", [(KEY,), ()], ids=["shared", "each its own"])
def test_a_process_that_has_the_refused_token_still_fails_no_job_that_another_one_renewed_for(
    server: OAuthServer, oauth: OAuth, store: Store, keys: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is refused in one process and made again in the next, which has not heard that the token is revoked."""
    open_lane(store, rates=("100/s",))
    monkeypatch.setattr("tidegate.operations.oauth._YOUNG_SECONDS", 0.05)
    keepers = [keeper_of(store, *keys) for _ in range(3)]
    held = [token_of(keeper, oauth) for keeper in keepers]
    wait_until(lambda: not any(each.is_young for each in held), description="the tokens are no longer young")
    server.revoke()
    job_id = submit(store, operation="made")

    for keeper in (*keepers, keepers[0]):
        run_once(store, server, oauth, keeper, job_id)

    row = row_of(store, job_id)
    assert (row.state, row.attempt) == ("succeeded", 1)
    assert outcomes_of(store, job_id) == [*["token renewed"] * 3, "succeeded"]


def test_a_young_token_is_not_to_blame_for_a_401(server: OAuthServer, oauth: OAuth, store: Store) -> None:
    open_lane(store)
    server.refuses_all = True
    job_id = submit(store, operation="made")

    run_once(store, server, oauth, keeper_of(store, KEY), job_id)

    assert (row_of(store, job_id).state, len(server.asked)) == ("failed", 1)
    assert rows(store)[0].token is not None


def test_a_wrong_secret_fails_the_job_and_a_token_server_that_is_down_only_the_attempt(
    server: OAuthServer, oauth: OAuth, store: Store
) -> None:
    open_lane(store, rates=("100/s",))
    wrong, later = submit(store, operation="made"), replace(oauth, client_secret="wrong", scope="x")
    run_once(store, server, later, keeper_of(store), wrong)

    row = row_of(store, wrong)
    assert (row.state, json.loads(row.error)) == (
        "failed",
        {"code": "operation_error", "message": "the token server answered 401: invalid_client"},
    )

    server.instead = Answer(status=503, body=b"")
    job_id = submit(store, operation="made")
    run_once(store, server, oauth, keeper_of(store), job_id)
    row = row_of(store, job_id)
    assert (row.state, row.waits_for, row.attempt) == ("queued", "retry", 1)
    assert server.calls == []
