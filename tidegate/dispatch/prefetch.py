"""Prefetching: followers are jobs released ahead, each to call as soon as an open call ends and leaves its place.

Between two calls of one place lie recording, release, message and claim: some 25 ms, a fifth of a call of 100 ms. A
follower has all of that behind it when its turn comes.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Integer, bindparam, select

from tidegate.database.connection import Database
from tidegate.database.schema import attempts
from tidegate.database.statement import Prepared
from tidegate.dispatch.places import is_among_followers, is_held, is_lost
from tidegate.jobs.job import Call
from tidegate.operations.queues import Queue


def unfollowed_calls(database: Database, name: str, limit: int) -> Sequence[Call]:
    """The open calls of a lane that have no follower yet, the oldest first.

    One has one follower ever: if that gave up waiting, the call takes too long to be followed.
    """
    return database.fetch_all(_UNFOLLOWED, {"lane": name, "most": limit})


def _unfollowed() -> Any:
    follower = attempts.alias("follower")
    # A scalar subquery with LIMIT 1, not EXISTS: PostgreSQL would make that a join, which may read all followers for
    # each call.
    its_follower = (
        select(follower.c.job_id)
        .where(follower.c.follows_job == attempts.c.job_id, follower.c.follows_fence == attempts.c.fence)
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(attempts.c.job_id, attempts.c.fence)
        .where(
            attempts.c.downstream == bindparam("lane"),
            # Child processes of the queue cpu neither send nor hear hints of calls that ended.
            attempts.c.queue == Queue.IO,
            is_held(attempts),
            ~is_lost(),  # nor kept while its job is polled: of no worker it is not known
            ~is_among_followers(),
            its_follower.is_(None),
        )
        .order_by(attempts.c.released_at)
        .limit(bindparam("most", type_=Integer))
    )


_UNFOLLOWED = Prepared(_unfollowed(), lambda row: (row["job_id"], row["fence"]))
