"""Repeats a statement until the database answers: for what must not be left undone once it was begun."""

import logging
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DatabaseError

from tidegate import clock
from tidegate.database.connection import UNREACHABLE

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

_AGAIN_SECONDS = (0.1, 0.5, 1.0, 2.0)


def retry_until_answered(job_id: str, ask: Callable[[], Answer], *, whatever_it_says: bool = False) -> Answer:
    """Calls `ask` again and again until the database answers, however long that takes; returns its answer.

    `whatever_it_says`: it is asked on also when it refuses for other reasons (a right that was taken away, a table that
    is being restored). What is asked must be such that it can't be the question's fault.
    """
    passing = (*UNREACHABLE, DatabaseError) if whatever_it_says else UNREACHABLE
    waits = iter(_AGAIN_SECONDS)
    while True:
        try:
            return ask()
        except passing as error:
            log.warning("job %s: the database can't be reached, trying on: %s", job_id, error)
            clock.sleep(next(waits, _AGAIN_SECONDS[-1]))
