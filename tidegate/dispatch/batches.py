"""Puts waiting jobs together into batches, many jobs in one call: who goes along with whom. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from tidegate.clock import MICROSECOND
from tidegate.dispatch.lane import LAST_LIFE, LaneState, WaitingJob
from tidegate.dispatch.plan import Plan, released_at
from tidegate.jobs.job import InBatch
from tidegate.operations.batch import Batch

NO_BATCHES: Mapping[str, Batch] = {}
MOST_READ = 1000
"""No more waiting jobs of a lane are read for one release, however many would fit into its batches."""


@dataclass(kw_only=True)
class _Group:
    """Jobs for one call, the first of which takes its slot and place. `number`: it is full with so many."""

    jobs: list[WaitingJob]
    number: int = 1
    size: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.jobs) >= self.number


@dataclass(frozen=True, kw_only=True)
class Folded:
    """Waiting jobs put together: `heads`, the first job of each call, and the `companions` that go along, by head.

    `cut`: heads whose calls may get more companions when more jobs are read. `next_due`: when the first call goes that
    waits for company (microseconds).
    """

    heads: Sequence[WaitingJob] = ()
    companions: Mapping[str, Sequence[WaitingJob]] = field(default_factory=dict)
    cut: frozenset[str] = frozenset()
    next_due: int | None = None

    def state(self, state: LaneState, declared: Mapping[str, Batch]) -> LaneState:
        """The lane as if each call were one job."""
        limit = len(self.heads) + (not state.may_have_more)
        return replace(state, waiting=self.heads, limit=limit, batched=declared.keys())

    def is_cut(self, plan: Plan) -> bool:
        """Whether more jobs are to be read, for calls that this plan lets go are not full by those that were."""
        return not self.cut.isdisjoint(job.job_id for job in plan.released)

    def unfold(self, plan: Plan, state: LaneState) -> Plan:
        """The plan with all jobs: those that go along have the slot of their head, and follow its call."""
        released, follows = [], dict(plan.follows)
        for job in plan.released:
            if job.operation not in plan.state.batched:
                released.append(job)
                continue
            along = [replace(released_at(each, 0, state.now), slot_at=job.slot_at) for each in self._along(job.job_id)]
            members = sorted([job, *along], key=lambda member: member.job_id)
            parts = InBatch.among([member.job_id for member in members])
            released += [replace(member, batch=part) for member, part in zip(members, parts, strict=True)]
            follows |= {member.job_id: (job.job_id, job.fence) for member in along}
        due = [] if self.next_due is None else [(self.next_due - state.now) / 1e6]
        due += [] if plan.next_due is None else [plan.next_due]
        state = replace(state, batched=plan.state.batched)
        return replace(plan, state=state, released=released, follows=follows, next_due=min(due, default=None))

    def _along(self, job_id: str) -> Sequence[WaitingJob]:
        return self.companions.get(job_id, ())


class BatchedJobs:
    """Puts waiting jobs together, as their operations are `declared`; `sizes` reads how large their inputs are."""

    def __init__(self, declared: Mapping[str, Batch], sizes: Callable[[Collection[str]], Mapping[str, int]]) -> None:
        self.declared = declared
        self._sizes = sizes

    def most(self, waiting: Iterable[WaitingJob]) -> int:
        """How many of these jobs one call may do at the most."""
        return max((self.declared[job.operation].max for job in waiting if job.operation in self.declared), default=1)

    def fold(self, state: LaneState, waiting: Sequence[WaitingJob], *, may_have_more: bool, may_linger: bool) -> Folded:
        """Puts jobs of a lane together, all of which may go in the same call."""
        several = [job.id for job in waiting if job.operation in self.declared]
        return fold(
            waiting,
            self.declared,
            sizes=self._sizes(several) if len(several) > 1 else {},
            now=state.now,
            call_ends_at=state.now + round(1e6 * (state.lane.call_seconds or 0.0)),
            may_have_more=may_have_more,
            may_linger=may_linger,
        )


def fold(
    waiting: Sequence[WaitingJob],
    declared: Mapping[str, Batch],
    *,
    sizes: Mapping[str, int],
    now: int,
    call_ends_at: int,
    may_have_more: bool,
    may_linger: bool,
) -> Folded:
    """Puts the waiting jobs of a lane, or of a partition, together: each goes along with the first that has room.

    `declared`: the operations that take many jobs in a call. `sizes`: of the jobs' inputs, in bytes. What went together
    and goes again is not joined by others. A job whose deadline lies before `call_ends_at` goes along with nobody, nor
    does one that another process death would fail, in whichever queue, for a call has one process. `may_linger`: a job
    may wait for company, as its operation says.
    """
    groups: list[_Group] = []
    open_groups: dict[tuple[str, ...], _Group] = {}
    for job in waiting:
        batch, size = declared.get(job.operation), sizes.get(job.id, 0)
        if batch is None or job.losses >= LAST_LIFE:
            groups.append(_Group(jobs=[job]))
            continue
        along_with = (job.operation, job.queue, job.batch_id or "")
        group = open_groups.get(along_with)
        if group and not group.is_full and group.size + size <= batch.max_bytes:
            if job.deadline >= call_ends_at:
                group.jobs.append(job)
                group.size += size
                continue
            groups.append(_Group(jobs=[job]))
        else:
            number = batch.max if job.batch is None else min(batch.max, InBatch.parse(job.batch).size)
            open_groups[along_with] = group = _Group(jobs=[job], number=number, size=size)
            groups.append(group)
    lingering = {
        _id_of(group): until for group in groups if may_linger and (until := _lingers_until(group, declared)) > now
    }
    return Folded(
        heads=[group.jobs[0] for group in groups if _id_of(group) not in lingering],
        companions={_id_of(group): group.jobs[1:] for group in groups if len(group.jobs) > 1},
        cut=frozenset(_id_of(group) for group in groups if may_have_more and not group.is_full),
        next_due=min(lingering.values(), default=None),
    )


def _lingers_until(group: _Group, declared: Mapping[str, Batch]) -> int:
    first = group.jobs[0]
    if group.is_full or first.batch is not None:
        return 0
    return first.run_at + declared[first.operation].linger // MICROSECOND


def _id_of(group: _Group) -> str:
    return str(UUID(group.jobs[0].id))
