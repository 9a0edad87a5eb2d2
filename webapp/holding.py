"""Holds a request until its job is as the client waits for it, or its time is over."""

from collections.abc import Callable
from contextlib import closing

from tidegate import clock
from tidegate.job import Job
from tidegate.store.reading import JobWithResult, is_whole
from webapp import gateway
from webapp.auth import caller


def held(job: Job, seconds: float, until: Callable[[Job], bool], *, only_end: bool = False) -> JobWithResult | None:
    """The job as soon as `until` says yes to it, or as it is after so many seconds, with what it brought.

    None: there is no room to wait. `only_end`: nothing but an end is waited for.

    Neither a connection of the database nor a turn is held meanwhile. Raises UnknownJob when it was erased.
    """
    watch = gateway().lookout.watch(job, only_end=only_end)
    if watch is None:
        return None
    ends_at = clock.monotonic() + seconds
    news: JobWithResult | None = None
    with closing(watch), gateway().turns.given_up():
        while not until(job):
            news = watch.next(ends_at - clock.monotonic())
            if news is None:
                break
            job, _ = news
    if news and is_whole(news):
        return news
    return gateway().jobs.get_with_result(job.id, client_id=caller().scope)
