"""One job as its page shows it."""

from dataclasses import dataclass, replace
from typing import Self

from jinja2 import Environment

from tidegate.jobs.history import Timeline
from tidegate.jobs.job import Job, Waiting
from tidegate.states import State
from tidegate.webhooks.delivery import Delivery, DeliveryState
from webapp.context import Gateway
from webapp.page.parts import Parts, written
from webapp.page.preview import HEAD_BYTES, preview_of
from webapp.page.timeline import entries_of

PARTS = ("now", "actions", "timeline", "bodies")
_RELEASES = 50


@dataclass(frozen=True, kw_only=True)
class JobView:
    """All that there is to show of it."""

    job: Job
    waiting: Waiting | None
    timeline: Timeline
    delivery: Delivery | None

    @classmethod
    def read(cls, gateway: Gateway, job: Job) -> Self:
        """The job and what became of it: three statements, and two more for its webhook."""
        return cls(
            job=job,
            waiting=gateway.jobs.waiting(job),
            timeline=gateway.store.timeline.read(job.id, job.client_id, releases=_RELEASES, head_bytes=HEAD_BYTES),
            delivery=_delivery(gateway, job),
        )

    def moved_on(self, gateway: Gateway, job: Job | None) -> Self:
        """The same later. While it only goes on within an attempt, or waits (`job` None), it costs no statement."""
        if job and _stage(job) != _stage(self.job):
            return self.read(gateway, job)
        job = job or self.job
        if job.state.is_final:
            return replace(self, delivery=_delivery(gateway, job))
        return replace(self, job=job, waiting=gateway.jobs.waiting(job))

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will become of it."""
        is_told = self.delivery is None or self.delivery.state in {DeliveryState.DELIVERED, DeliveryState.FAILED}
        return self.job.state.is_final and is_told

    def parts(self, environment: Environment, *, is_operator: bool) -> Parts:
        """The parts of its page."""
        values = {
            "job": self.job,
            "waiting": self.waiting,
            "client": self.timeline.client if is_operator else None,
            "entries": entries_of(self.job, self.timeline, self.waiting, self.delivery),
            "previews": {kind: preview_of(head) for kind, head in self.timeline.heads.items()},
            "can_cancel": not self.job.state.is_final and not self.job.cancel_requested,
            "can_retry": self.job.state.is_final and self.job.state is not State.SUCCEEDED,
            "root": "../",
        }
        return written(environment, "job", PARTS, values)


def _delivery(gateway: Gateway, job: Job) -> Delivery | None:
    return gateway.store.deliveries.get(job.id, None) if job.has_webhook else None


def _stage(job: Job) -> tuple[str, int, bool]:
    return job.state, job.attempt, job.cancel_requested
