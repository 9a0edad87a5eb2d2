"""The states, their moves, and the database's own opinion of them."""

import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import CheckConstraint, String, insert
from sqlalchemy.exc import IntegrityError

from migrations.upgrade import upgrade
from tests.support.present import present
from tidegate.database.connection import Database
from tidegate.database.schema import jobs
from tidegate.database.time import database_now
from tidegate.jobs.job import Wait
from tidegate.jobs.transitions import stored_wait, wait_of
from tidegate.states import FINAL_STATES, MOVES, OPEN_STATES, State


def test_every_state_has_its_moves() -> None:
    assert set(MOVES) == set(State)


def test_a_final_state_is_never_left() -> None:
    assert {state for state in State if not MOVES[state]} == FINAL_STATES
    assert {State.SUCCEEDED, State.FAILED, State.EXPIRED, State.CANCELLED} == FINAL_STATES
    assert {State.QUEUED, State.RUNNING} == OPEN_STATES


def test_only_what_runs_can_succeed_or_fail() -> None:
    for outcome in (State.SUCCEEDED, State.FAILED):
        assert {state for state, moves in MOVES.items() if outcome in moves} == {State.RUNNING}


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
def test_every_final_state_is_reached_from_running(state: State) -> None:
    assert state in MOVES[State.RUNNING]


def test_no_state_moves_to_itself() -> None:
    assert all(state not in moves for state, moves in MOVES.items())


def _check(name: str) -> str:
    checks = {str(check.name): check for check in jobs.constraints if isinstance(check, CheckConstraint)}
    return str(checks[name].sqltext)


def test_the_tables_states_are_those_of_the_code() -> None:
    assert set(re.findall(r"'(\w+)'", _check("ck_jobs_state"))) == set(State)
    assert set(re.findall(r"'(\w+)'", _check("ck_jobs_finished"))) == FINAL_STATES


def test_every_name_fits_its_column() -> None:
    stored = {stored_wait(wait) for wait in set(Wait) - {Wait.UNKNOWN_OPERATION}}
    assert {wait_of(name) for name in stored} == set(Wait) - {Wait.UNKNOWN_OPERATION}
    for column, names in ((jobs.c.state, set(State)), (jobs.c.waits_for, stored)):
        assert isinstance(column.type, String)
        assert max(map(len, names)) <= present(column.type.length)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A migrated SQLite file; nothing is ever stored in it."""
    url = f"sqlite:///{tmp_path_factory.mktemp('states') / 'tidegate.db'}"
    upgrade(url)
    opened = Database(url)
    yield opened
    opened.close()


def _is_accepted(database: Database, **values: Any) -> bool:
    row = {
        "id": "01890000-0000-7000-8000-000000000001",
        "client_id": "local",
        "operation": "echo",
        "downstream": "echo",
        "queue": "io",
        "max_attempts": 3,
        "created_at": database_now(),
        "run_at": database_now(),
        "deadline": database_now(timedelta(seconds=1)),
        **values,
    }
    with database.engine.connect() as connection:
        try:
            connection.execute(insert(jobs).values(**row))
        except IntegrityError:
            return False
        finally:
            connection.rollback()
    return True


NOW = database_now()
POSSIBLE: dict[State, dict[str, Any]] = {
    State.QUEUED: {},
    State.RUNNING: {"lease_until": NOW, "slot_at": NOW},
    State.SUCCEEDED: {"finished_at": NOW, "percent": 100},
    State.FAILED: {"finished_at": NOW},
    State.EXPIRED: {"finished_at": NOW},
    State.CANCELLED: {"finished_at": NOW},
}


@pytest.mark.parametrize("state", State)
def test_the_database_takes_a_possible_row(database: Database, state: State) -> None:
    assert _is_accepted(database, state=state, **POSSIBLE[state])


@pytest.mark.parametrize(
    ("state", "impossible"),
    [
        (State.QUEUED, {"finished_at": NOW}),
        (State.QUEUED, {"lease_until": NOW}),
        (State.QUEUED, {"percent": 100}),
        (State.QUEUED, {"percent": -1}),
        (State.QUEUED, {"deadline": database_now(-timedelta(seconds=1))}),
        (State.RUNNING, {"lease_until": None}),
        (State.RUNNING, {"slot_at": None}),
        (State.RUNNING, {"finished_at": NOW}),
        (State.SUCCEEDED, {"percent": 99}),
        (State.SUCCEEDED, {"finished_at": None}),
        (State.FAILED, {"finished_at": None}),
        (State.EXPIRED, {"lease_until": NOW}),
        (State.CANCELLED, {"percent": 100}),
    ],
)
def test_the_database_refuses_an_impossible_row(database: Database, state: State, impossible: dict[str, Any]) -> None:
    assert not _is_accepted(database, state=state, **{**POSSIBLE[state], **impossible})


def test_the_database_refuses_an_unknown_state(database: Database) -> None:
    assert not _is_accepted(database, state="sleeping")
