"""What watches over connections costs nothing while there is nothing to watch."""

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select

from tidegate import clock, patience
from tidegate.database import Database

_RESTING_SECONDS = 0.6


@pytest.fixture
def database(postgresql_url: str) -> Iterator[Database]:
    """One that has patience."""
    opened = Database(postgresql_url, patience=timedelta(seconds=2))
    yield opened
    opened.close()


def test_a_watchdog_without_anything_to_watch_rests(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    sleep = clock.sleep
    # Threads that other tests left behind sleep, too.
    monkeypatch.setattr(
        patience.clock,
        "sleep",
        lambda seconds: (looks.append(seconds) if seconds == patience._LOOK_SECONDS else None, sleep(seconds)),
    )

    for _ in range(2):
        with database.reading() as connection:
            connection.execute(select(1))
        time.sleep(_RESTING_SECONDS)

    assert 1 <= len(looks) <= 4
