"""Passes the lead of a batch: one of its jobs has the slot and the place of their call, and the others follow it."""

from collections.abc import Sequence

from sqlalchemy import Connection, and_, select, update

from tidegate.database.schema import attempts
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
        return None
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
