"""The data of one job's page, and its HTML parts."""

from dataclasses import dataclass, replace
from typing import Self

from jinja2 import Environment

from tidegate.jobs.document import batch_of
from tidegate.jobs.history import Timeline
from tidegate.jobs.job import Job, Waiting
from tidegate.states import State
from tidegate.webhooks.delivery import Delivery, DeliveryState
from webapp.context import Context
from webapp.page.parts import Parts, written
from webapp.page.preview import HEAD_BYTES, preview_of
from webapp.page.timeline import entries_of
from webapp.page.why import faults_of

PARTS = ("now", "actions", "timeline", "bodies")
_RELEASES = 50


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job with all that its page shows."""

    job: Job
    waiting: Waiting | None
    timeline: Timeline
    delivery: Delivery | None

    @classmethod
    def read(cls, context: Context, job: Job) -> Self:
        """Reads the job's history: three statements, and two more for its webhook."""
        return cls(
            job=job,
            waiting=context.jobs.waiting(job),
            timeline=context.store.timeline.read(job.id, job.client_id, releases=_RELEASES, head_bytes=HEAD_BYTES),
            delivery=_delivery(context, job),
        )

    def moved_on(self, context: Context, job: Job | None) -> Self:
        """The view after a change of the job (None: only time has passed). Within an attempt it costs no statement."""
        if job and _stage(job) != _stage(self.job):
            return self.read(context, job)
        job = job or self.job
        if job.state.is_final:
            return replace(self, delivery=_delivery(context, job))
        return replace(self, job=job, waiting=context.jobs.waiting(job))

    @property
    def is_settled(self) -> bool:
        """Whether the page will not change any more."""
        is_told = self.delivery is None or self.delivery.state in {DeliveryState.DELIVERED, DeliveryState.FAILED}
        return self.job.state.is_final and is_told

    def parts(self, environment: Environment, *, is_operator: bool) -> Parts:
        """Renders the parts of the page."""
        values = {
            "job": self.job,
            "waiting": self.waiting,
            "batch": batch_of(self.job),
            "client": self.timeline.client if is_operator else None,
            "faults": faults_of(self.job, self.timeline.releases),
            "entries": entries_of(self.job, self.timeline, self.waiting, self.delivery),
            "previews": {kind: preview_of(head) for kind, head in self.timeline.heads.items()},
            "can_cancel": not self.job.state.is_final and not self.job.cancel_requested,
            "can_retry": self.job.state.is_final and self.job.state is not State.SUCCEEDED,
            "root": "../",
        }
        return written(environment, "job", PARTS, values)


def _delivery(context: Context, job: Job) -> Delivery | None:
    return context.store.deliveries.get(job.id, None) if job.has_webhook else None


def _stage(job: Job) -> tuple[str, int, bool]:
    return job.state, job.attempt, job.cancel_requested
