"""Long polling: holds a request until its job is as the client waits for it, or its time is over."""

from collections.abc import Callable
from contextlib import closing

from tidegate import clock
from tidegate.access.keys import Caller
from tidegate.errors import ShareUsed, Unauthorized
from tidegate.jobs.job import Job, JobWithResult, is_whole
from webapp.context import Context


def held(
    own: Context,
    caller: Caller,
    job: Job,
    seconds: float,
    until: Callable[[Job], bool],
    *,
    only_end: bool = False,
) -> JobWithResult | None:
    """Waits until `until` accepts the job, or for so many seconds; returns the job and its result.

    None: there is no room to wait, for this client or for anybody. `only_end`: nothing but an end is waited for.
    Call it outside a turn (see `concurrency`); no connection of the database is held meanwhile. Raises UnknownJob when
    it was erased, and Unauthorized when the key was revoked meanwhile.
    """
    try:
        watch = own.watcher.watch(job, caller.client_id, only_end=only_end)
    except ShareUsed:
        watch = None
    if watch is None:
        return None
    ends_at = clock.monotonic() + seconds
    news: JobWithResult | None = None
    with closing(watch):
        while not until(job):
            news = watch.next(ends_at - clock.monotonic())
            if news is None:
                break
            job, _ = news
    if own.authenticator and not own.authenticator.still_knows(caller):
        raise Unauthorized("the key was revoked or expired while the request waited")
    if news and is_whole(news):
        return news
    return own.jobs.get_with_result(job.id, client_id=caller.scope)
