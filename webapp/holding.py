"""Holds a request until its job is as the client waits for it, or its time is over."""

from collections.abc import Callable
from contextlib import closing

from tidegate import clock
from tidegate.job import Job
from webapp import gateway
from webapp.auth import caller


def held(job: Job, seconds: float, until: Callable[[Job], bool]) -> Job | None:
    """The job as soon as `until` says yes to it, or as it is after so many seconds; None: there is no room to wait.

    Neither a connection of the database nor a turn is held meanwhile. Raises UnknownJob when it was erased.
    """
    watch = gateway().lookout.watch(job)
    if watch is None:
        return None
    ends_at = clock.monotonic() + seconds
    with closing(watch), gateway().turns.given_up():
        while not until(job):
            news = watch.next(ends_at - clock.monotonic())
            if news is None:
                break
            job = news
        else:
            return job
    return gateway().jobs.get(job.id, client_id=caller().scope)
