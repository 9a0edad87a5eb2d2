"""What watches over connections costs nothing while there is nothing to watch."""

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select

from tidegate import clock
from tidegate.database import circuit_breaker
from tidegate.database.connection import Database

_RESTING_SECONDS = 0.6


@pytest.fixture
def database(postgresql_url: str) -> Iterator[Database]:
    """One that has patience."""
    opened = Database(postgresql_url, patience=timedelta(seconds=2))
    yield opened
    opened.close()


def test_a_watchdog_without_anything_to_watch_rests(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    sleep = clock.sleep

    def counted(seconds: float) -> None:
        if seconds == circuit_breaker._LOOK_SECONDS:  # threads that other tests left behind sleep, too
            looks.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(clock, "sleep", counted)

    for _ in range(2):
        database.execute(select(1))
        time.sleep(_RESTING_SECONDS)

    assert 1 <= len(looks) <= 4
