"""What a submit, a poll and a job cost the database, so that none of it grows unseen.

Numbers that fell belong here too: a change that is measured (`make bench`) writes down what it saved.
"""

from datetime import timedelta

import pytest

from tests.support.jobs import LANE, open_lane, release, release_one, row_of, submit, submit_to_partitions
from tests.support.operations import echo
from tests.support.running import runner_of
from tests.support.statements import Asked, asked
from tests.support.web import Web
from tidegate.database.connection import Database
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.dispatch import lane_cache
from tidegate.dispatch.gate import Gate
from tidegate.maintenance.sweep import sweep
from tidegate.notify.messages import Wakeup
from tidegate.operations.operation import Body
from tidegate.operations.sharing import Sharing, key_of
from tidegate.states import State
from tidegate.stores import Store

_TOGETHER = 10


@pytest.fixture
def web(web: Web, monkeypatch: pytest.MonkeyPatch) -> Web:
    """The face, which has just read its lanes: it does so twice a second at most, and then never again."""
    monkeypatch.setattr(lane_cache, "_FRESH_SECONDS", float("inf"))
    web.accepted()
    return web


def test_a_submit_is_one_transaction(web: Web) -> None:
    """The clock, the job and its input; on PostgreSQL one statement that commits by itself."""
    with asked(web.database) as cost:
        web.accepted("echo", b"1")

    statements, transactions = (3, 1) if web.database.is_sqlite else (1, 0)
    assert_cost(cost, statements=statements, transactions=transactions)


def test_a_submit_under_a_key_looks_for_it_and_takes_it(web: Web) -> None:
    """And then the clock, the job and its input, in the same transaction."""
    with asked(web.database) as cost:
        web.accepted("echo", b"1", Idempotency_Key="k1")

    assert_cost(cost, statements=5, transactions=1)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED])
def test_a_poll_reads_the_job_with_its_result(web: Web, state: State) -> None:
    """No transaction, and nothing for the forecast of one that waits."""
    job_id = web.job_in(state)

    with asked(web.database) as cost:
        web.read(job_id)

    assert_cost(cost, statements=1, transactions=0)


def test_an_unchanged_job_is_read_and_nothing_else(web: Web) -> None:
    """A 304 needs the row: its owner, its version and its deadline."""
    job_id = web.job_in(State.SUCCEEDED)
    tag = web.read(job_id).headers["ETag"]

    with asked(web.database) as cost:
        answer = web.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": tag})

    assert answer.status_code == 304
    assert_cost(cost, statements=1, transactions=0)


def test_a_release_is_one_transaction_for_all_that_go(store: Store) -> None:
    """Which lanes have something due; a look at the first of a lane's jobs and, as there are more, at all that could
    go; and the release. On SQLite that is two for each, the lane before and after."""
    open_lane(store, size=_TOGETHER)
    for _ in range(_TOGETHER):
        submit(store)

    with asked(store.database) as cost:
        assert len(release(store)) == _TOGETHER

    writes = 2 * _TOGETHER + 2 if store.database.is_sqlite else 1
    assert_cost(cost, statements=1 + 2 + writes, transactions=int(store.database.is_sqlite))


def test_a_release_of_a_few_is_two_statements_on_postgresql(store: Store) -> None:
    """All that must be known, and what goes; no transaction between them, and no look for other lanes."""
    open_lane(store)
    gate = Gate(store.lanes)
    gate.run_once()
    submit(store)

    with asked(store.database) as cost:
        assert len(gate.run_once(Wakeup(lanes={LANE})).released) == 1

    assert_cost(cost, statements=5 if store.database.is_sqlite else 2, transactions=int(store.database.is_sqlite))


@pytest.mark.parametrize("others", [0, 3])
def test_the_first_job_of_a_partition_is_read_with_its_lane(store: Store, others: int) -> None:
    """All that must be known, the rows of the new partition and its client, and what goes with their turns; nothing for
    the partitions that had jobs before, however long ago it was that all were asked for. On SQLite the lane before and
    after, two for the job and two for the turns."""
    open_lane(store, sharing=Sharing(by="header"), size=1000)
    submit_to_partitions(store, [f"k{number}" for number in range(others + 1)], lane=LANE, operation="echo")
    gate = Gate(store.lanes)
    while gate.run_once().released:
        pass
    gate._shared._survey_due.clear()
    gate._survey_due = float("inf")
    submit_to_partitions(store, ["new"], lane=LANE, operation="echo")
    wakeup = Wakeup(lanes={LANE}, partitions=frozenset({(LANE, key_of(IMPLICIT_CLIENT, "new"))}))

    with asked(store.database) as cost:
        (released,) = gate.run_once(wakeup).released

    assert released.turn is not None
    assert_cost(cost, statements=8 if store.database.is_sqlite else 3, transactions=int(store.database.is_sqlite))


def test_a_job_is_two_writes_of_its_worker(store: Store) -> None:
    """The claim, its attempt and the input; then the outcome, the result and the end of the attempt. On PostgreSQL each
    of the two is one statement that commits by itself, on SQLite one transaction."""
    open_lane(store)
    job_id = submit(store, operation=echo.name, body=Body(content=b"1", content_type="application/json"))
    released = release_one(store)
    runner = runner_of(store, echo)

    with asked(store.database) as cost:
        assert runner.run(job_id, released.fence)

    assert row_of(store, job_id).state == State.SUCCEEDED
    statements, transactions = (6, 2) if store.database.is_sqlite else (2, 0)
    assert_cost(cost, statements=statements, transactions=transactions)


def test_a_quiet_scheduler_asks_once(database: Database) -> None:
    """A turn of the gate that finds nothing."""
    store = Store(database)
    open_lane(store)

    with asked(database) as cost:
        assert release(store) == []

    assert_cost(cost, statements=1, transactions=0)


def test_a_quiet_sweep_asks_once(database: Database) -> None:
    """Whether anything has run out; erasing old rows comes more rarely."""
    store = Store(database)

    with asked(database) as cost:
        assert sweep(store.upkeep, retention=timedelta(days=1), prunes=False).total == 0

    assert_cost(cost, statements=1, transactions=0)


def assert_cost(cost: Asked, *, statements: int, transactions: int) -> None:
    """Exactly so much; says what it was."""
    assert cost.counts == (statements, transactions), str(cost)
