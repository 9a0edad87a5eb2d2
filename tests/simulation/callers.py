"""Callers and operators of a simulated cluster, who act as the plan says and remember what they were told."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from tests.simulation.cluster import Cluster
from tests.simulation.invariants import Asked, dashed
from tests.simulation.plan import WEBS
from tidegate.database.connection import UNREACHABLE
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.errors import DatabaseUnreachableError, Refusal
from tidegate.gateway import Gateway
from tidegate.intake.submission import Submission
from tidegate.jobs.job import Job
from tidegate.operations.operation import Body
from tidegate.stores import Store
from tidegate.webhooks.delivery import Webhook


class Callers:
    """All callers and operators. Jobs are known by the labels of the plan."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._world = cluster.world
        self._invariants = cluster.invariants
        self.asked: dict[str, list[Asked]] = {}

    def submit(
        self,
        labels: Sequence[str],
        web: str,
        operation: str,
        timeout: float = 60.0,
        *,
        later: float = 0.0,
        has_key: bool = False,
        has_webhook: bool = False,
        retry_of: Asked | None = None,
        **whose: Any,
    ) -> None:
        """Submits one job, or several together; then reads each again and again until it is final.

        What the caller is told is noted. If the web process dies, it is told nothing. `whose`: client, partition and
        priority, where it says any.
        """
        not_before = self._world.now + later if later else 0.0
        requests = [
            Asked(label, has_webhook=has_webhook, has_key=has_key, not_before=not_before, downstream=operation)
            for label in labels
        ]
        for each in requests:
            self.asked.setdefault(each.label, []).append(each)
            self._invariants.asked.append(each)
        process = self.cluster.roles[web]
        if process.is_dead or process not in self.cluster.gateways:
            for each in requests:
                each.told = "refused"
            return

        wanted = self._world.wall() + timedelta(seconds=later) if later else None

        def ask() -> None:
            submissions = [
                Submission(
                    operation=operation,
                    body=Body(content=each.label.encode(), content_type="text/plain"),
                    **{"client_id": IMPLICIT_CLIENT, **whose},
                    timeout=timedelta(seconds=timeout),
                    not_before=wanted,
                    idempotency_key=f"key of {each.label}" if has_key else None,
                    webhook=Webhook(url="http://127.0.0.1/told", base_url="http://gateway") if has_webhook else None,
                )
                for each in requests
            ]
            gateway = self.cluster.gateways[process]
            try:
                if retry_of and retry_of.job:
                    answers: Sequence[Job | Refusal] = [gateway.retry(dashed(retry_of.job), client_id=None)]
                else:
                    answers = gateway.submit_each(submissions)
            except Refusal as refusal:
                answers = [refusal for _ in requests]
            except DatabaseUnreachableError as error:
                for each in requests:
                    each.told = "unknown" if error.may_be_done else "refused"
                    self._world.tell(f"{each.label} gets 503, {each.told}")
                return
            for each, answer in zip(requests, answers, strict=True):
                self._note(each, answer)

        self._world.spawn(f"{process.name}/submit {labels[0]} {len(self.asked[labels[0]])}", ask, process)

    def _note(self, asked: Asked, answer: Job | Refusal) -> None:
        if isinstance(answer, Refusal):
            asked.told = "refused"
            self._world.tell(f"{asked.label} is refused: {type(answer).__name__}")
            return
        asked.told, asked.job = "accepted", answer.id.replace("-", "")
        self._world.tell(f"{asked.label} is accepted as {asked.job}")
        self._world.spawn(f"caller/{asked.label}", lambda: self._read(asked, answer.id))

    def _read(self, asked: Asked, job_id: str) -> None:
        while True:
            self._world.sleep(0.2 + 2 * self._world.draw_here("poll"))
            try:
                job = self._gateway().get(job_id, client_id=None)
            except UNREACHABLE:
                continue
            except Refusal:
                return
            self._invariants.answered(asked, job.state, job.deadline.timestamp(), job.seen_at.timestamp())
            if job.state.is_final:
                return

    def _gateway(self) -> Gateway:
        """That of any web process: a read changes nothing of it."""
        return next(iter(self.cluster.gateways.values()))

    def act(self, what: str, label: str) -> None:
        """A caller cancels, erases or retries its job, if it knows of one."""
        for asked in self.asked.get(label, ())[:1]:
            if asked.job is None:
                return
            if what == "retry":
                self.submit([f"{label} again"], WEBS[0], asked.downstream, retry_of=asked)
            else:
                work = self._cancel if what == "cancel" else self._erase
                self._world.spawn(f"caller/{label} {what}", partial(work, asked))

    def _cancel(self, asked: Asked) -> None:
        job_id = dashed(asked.job or "")
        try:
            job = self._gateway().cancel(job_id, client_id=None)
        except (*UNREACHABLE, Refusal):
            return
        self._world.tell(f"{asked.label} is answered: {job.state}, after it was asked to cancel it")
        asked.cancelled_fence = self._invariants.fence_of(asked.job or "")

    def _erase(self, asked: Asked) -> None:
        job = asked.job or ""
        self._invariants.erased.add(job)
        try:
            self._gateway().delete(dashed(job), client_id=None)
        except (*UNREACHABLE, Refusal):
            return
        self._world.tell(f"{asked.label} is erased by its caller")

    def operate(self, lane: str, changes: dict[str, Any], *, paused: bool | None) -> None:
        """An operator changes limits of a lane, or pauses or resumes it."""

        def change() -> None:
            try:
                Store(self.cluster.database(self._world.nobody)).limits.change(lane, changes, paused=paused)
            except UNREACHABLE:
                return
            self._world.tell(f"{lane} is changed: {changes} paused={paused}", "operator")

        self._world.spawn(f"operator/{lane}", change)

    def change_partition(
        self, lane: str, client: str, name: str, changes: dict[str, Any], *, paused: bool | None
    ) -> None:
        """An operator changes a partition's share or limits, or pauses or resumes it."""

        def change() -> None:
            try:
                store = Store(self.cluster.database(self._world.nobody))
                store.partitions.change(lane, client, name, changes, paused=paused)
            except UNREACHABLE:
                return
            self._world.tell(f"{lane} {client}/{name} is changed: {changes} paused={paused}", "operator")

        self._world.spawn(f"operator/{lane} {client}/{name}", change)
