"""Publishes messages to the broker, many together, and tells which were surely not sent."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from celery import Task, uuid
from kombu import Connection
from kombu.exceptions import BatchPublishError, OperationalError  # type: ignore[attr-defined] # new in kombu 5.7

from tasks.app import app
from tasks.brokers.options import CONFIRM_SECONDS
from tasks.run import run_batch, run_job, send_delivery
from tidegate import clock
from tidegate.jobs.job import Released
from tidegate.operations.queues import WEBHOOKS, Pool
from tidegate.operations.registry import Registry
from tidegate.webhooks.delivery import ReleasedDelivery

log = logging.getLogger(__name__)

# Added to the time limit after which a child process is killed: time for claiming and recording.
_LIMIT_MARGIN_SECONDS = 1.0
_EXPIRES_SECONDS = 3600


def errors_of(connection: Connection) -> tuple[type[BaseException], ...]:
    """The exceptions of a broker that can't be reached, or refuses a message."""
    return (
        OSError,
        OperationalError,
        *connection.connection_errors,
        *connection.channel_errors,
        *connection.recoverable_connection_errors,  # on RabbitMQ: it refuses a message
        *connection.recoverable_channel_errors,
    )


_UNREACHABLE = errors_of(app.connection_for_write())
Sent = TypeVar("Sent", Sequence[Released], ReleasedDelivery)


class NotSent(Exception):  # noqa: N818 - says what is so
    """Raised for messages that surely did not reach the broker: `unsent`."""

    def __init__(self, reason: str, unsent: Sequence[Any]) -> None:
        super().__init__(reason)
        self.unsent = unsent


class Publisher:
    """Publishes over a pooled connection that is opened anew after a failure."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def is_up(self) -> bool:
        """Whether the broker answers now; opens one short connection."""
        try:
            with app.connection_for_write() as connection:
                connection.default_channel  # noqa: B018 - opening it asks the broker for an answer
        except _UNREACHABLE as error:
            log.debug("the broker does not answer: %s", error)
            return False
        return True

    def send(self, released: Sequence[Released]) -> bool:
        """Publishes a message for each job, and one for all jobs of a batch.

        Raises NotSent for those surely not sent; False: it is uncertain.

        For the others nothing is undone: a job whose message was lost is taken back by the sweep, and of messages sent
        twice the second finds its release claimed.
        """

        def publish(producer: Any, message: Sequence[Released]) -> None:
            first = message[0]
            limit = max(filter(None, map(self._time_limit, message)), default=None)
            if first.batch:
                calls = [[job.job_id, job.fence] for job in message]
                send = _Message(task=run_batch, arguments=(first.batch.id, calls), task_id=first.batch.id)
            else:
                send = _Message(task=run_job, arguments=(first.job_id, first.fence), task_id=first.job_id)
            _put(producer, send, queue=first.queue, time_limit=limit)

        by_message: dict[str, list[Released]] = {}
        for job in released:
            by_message.setdefault(job.batch.id if job.batch else job.job_id, []).append(job)
        try:
            return _all_together(publish, [*by_message.values()])
        except NotSent as error:
            raise NotSent(str(error), [job for message in error.unsent for job in message]) from error

    def send_deliveries(self, released: Sequence[ReleasedDelivery]) -> bool:
        """As `send`, for deliveries; one whose message was lost is due again when its lease has run out."""

        def publish(producer: Any, each: ReleasedDelivery) -> None:
            send = _Message(task=send_delivery, arguments=(each.job_id, each.fence), task_id=uuid())
            _put(producer, send, queue=WEBHOOKS)

        return _all_together(publish, released)

    def _time_limit(self, job: Released) -> float | None:
        """Seconds after which Celery kills the process of a computing attempt; threads can't be killed."""
        operation = self._registry.operations.get(job.operation)
        if self._registry.queues.get(job.queue) is not Pool.PROCESSES or operation is None:
            return None
        left = (job.deadline - clock.now()).total_seconds()
        return min(operation.attempt_timeout.total_seconds(), max(left, 0.0)) + _LIMIT_MARGIN_SECONDS


class _Message(NamedTuple):
    """What a message says: which task, with what, under which id."""

    task: "Task[..., None]"
    arguments: Sequence[Any]
    task_id: str


def _put(producer: Any, sending: _Message, *, queue: str, time_limit: float | None = None) -> None:
    """Publishes one message as `task.apply_async` would, in a third of its time.

    It leaves out what that looks up first and what never differs here.
    """
    message = app.amqp.create_task_message(
        sending.task_id,
        sending.task.name,
        sending.arguments,
        {},
        time_limit=time_limit,
        ignore_result=True,
        create_sent_event=app.conf.task_send_sent_event,
        # What Celery would compute for Flower, at a tenth of the time of publishing.
        argsrepr=repr(sending.arguments),
        kwargsrepr="{}",
    )
    app.amqp.send_task_message(
        producer,
        sending.task.name,
        message,
        queue=queue,
        priority=None,
        confirm_timeout=CONFIRM_SECONDS,
        # RabbitMQ drops a message that nobody took for so long; its release is taken back as if it were lost.
        expiration=_EXPIRES_SECONDS,
    )


def _all_together(publish: Callable[[Any, Sent], None], released: Sequence[Sent]) -> bool:
    """Publishes to Redis in one pipeline at the end, to other brokers one message after the other."""
    begun = 0
    try:
        with app.producer_pool.acquire(block=True) as producer:
            producer.channel  # noqa: B018 - opens the connection: what fails here has sent nothing
            is_batch = producer.supports_batch_publish  # type: ignore[attr-defined] # new in kombu 5.7
            try:
                with producer.batch():  # type: ignore[attr-defined] # new in kombu 5.7
                    for each in released:
                        begun += not is_batch
                        publish(producer, each)
            except _UNREACHABLE:
                if not is_batch and producer.connection:
                    # Closed: a late confirmation would be taken for that of the next message.
                    producer.connection.collect()
                raise
    except BatchPublishError as error:
        log.warning("uncertain whether %d message(s) were sent, the sweep will see: %s", len(released), error)
        return False
    except _UNREACHABLE as error:
        if begun:
            log.warning("uncertain whether 1 message was sent, the sweep will see: %s", error)
        if begun == len(released):
            return False
        raise NotSent(str(error), released[begun:]) from error
    return True
