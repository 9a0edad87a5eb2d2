"""Long polling: holds a request until its job is as the client waits for it, or its time is over."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress

from tidegate import clock
from tidegate.access.keys import Caller
from tidegate.errors import ShareUsed, Unauthorized
from tidegate.jobs.document import Links, job_path
from tidegate.jobs.job import Job
from tidegate.jobs.reads import JobWithResult, is_whole
from webapp.context import Context
from webapp.http.answers import JobAnswer, accepted_answer, answer_about
from webapp.http.preferences import Preferences


def held(
    own: Context,
    caller: Caller,
    job: Job,
    seconds: float,
    until: Callable[[Job], bool],
    *,
    only_end: bool = False,
    meanwhile: AbstractContextManager[None] | None = None,
) -> JobWithResult | None:
    """Waits until `until` accepts the job, or for so many seconds; returns the job and its result.

    None: there is no room to wait, for this client or for anybody. `only_end`: nothing but an end is waited for.
    `meanwhile`: in which it waits, and gives its turn to others if it has one; no connection of the database is held.
    Raises UnknownJob when it was erased, and Unauthorized when the key was revoked meanwhile.
    """
    try:
        watch = own.watcher.watch(job, caller.client_id, only_end=only_end)
    except ShareUsed:
        watch = None
    if watch is None:
        return None
    ends_at = clock.monotonic() + seconds
    news: JobWithResult | None = None
    with closing(watch), meanwhile or nullcontext():
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


def answer_to_submit(
    own: Context,
    caller: Caller,
    job: Job,
    wishes: Preferences,
    links: Links,
    *,
    path: str,
    meanwhile: AbstractContextManager[None] | None = None,
) -> JobAnswer:
    """Makes the answer to a submit: 202, or that of a read if the client waited for the job's end and it came.

    `path`: that of the request. `meanwhile` as for `held`.
    """
    found = None
    if wishes.wait:
        with suppress(Unauthorized):  # the job is recorded all the same: 202 without what became of it since
            found = held(
                own, caller, job, wishes.wait, lambda job: job.state.is_final, only_end=True, meanwhile=meanwhile
            )
    now, result = found or (job, None)
    if found and now.state.is_final:
        answer = answer_about(now, result, own.jobs, links, path=path)
        answer.headers["Location"] = links.base + job_path(now)
        applied = Preferences(wait=wishes.wait)
    else:
        answer = accepted_answer(now, own.jobs, links)
        applied = wishes if found else Preferences(respond_async=wishes.respond_async)
    answer.headers.update(applied.fields())
    return answer
