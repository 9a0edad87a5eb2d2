"""Passes the lead of a batch: one of its jobs has the slot and the place of their call, and the others follow it."""

from collections.abc import Sequence

from sqlalchemy import Connection, and_, select, update

from tidegate.database.schema import attempts, jobs
from tidegate.jobs.job import Call
from tidegate.jobs.transitions import is_among

_PASSED = ("slot_at", "partition", "turn")


def pass_lead(within: Connection, leaving: Sequence[Call], staying: Sequence[Call]) -> Call | None:
    """Where the job that leads a batch leaves it, passes slot, place and turn to one that stays; which that is."""
    leads = and_(is_among(leaving), attempts.c.follows_job.is_(None)) if leaving else None
    if leads is None:
        return None
    columns = [attempts.c[name] for name in ("job_id", "fence", *_PASSED)]
    before = within.execute(select(*columns).where(leads, attempts.c.ended_at.is_(None))).first()
    if before is None:
        return _lead_anew(within, leaving, staying[0], staying[1:])
    lead = staying[0]
    follows_before = and_(attempts.c.follows_job == before.job_id, attempts.c.follows_fence == before.fence)
    following = {"follows_job": lead[0], "follows_fence": lead[1]}
    within.execute(update(attempts).where(follows_before, attempts.c.batch_id.is_not(None)).values(following))
    passed = {name: getattr(before, name) for name in _PASSED}
    alone = {"follows_job": None, "follows_fence": None}
    within.execute(update(attempts).where(is_among([lead])).values(**passed, **alone))
    taken = dict.fromkeys(("partition", "turn"))
    within.execute(update(attempts).where(is_among([(before.job_id, before.fence)])).values(**following, **taken))
    return lead


def _lead_anew(within: Connection, leaving: Sequence[Call], first: Call, others: Sequence[Call]) -> Call | None:
    """Where the job that led was erased, and its attempt with it, another leads: slot and partition are known of it."""
    own = is_among([first])
    followed = within.execute(select(attempts.c.follows_job, attempts.c.follows_fence).where(own)).first()
    lead = (followed.follows_job, followed.follows_fence) if followed else None
    if lead is None or lead not in leaving or within.execute(select(attempts.c.fence).where(is_among([lead]))).first():
        return None
    partition = select(jobs.c.partition).where(jobs.c.id == first[0]).scalar_subquery()
    within.execute(update(attempts).where(own).values(follows_job=None, follows_fence=None, partition=partition))
    if others:
        following = {"follows_job": first[0], "follows_fence": first[1]}
        within.execute(update(attempts).where(is_among(others)).values(following))
    return first
