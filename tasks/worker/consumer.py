"""A Celery consumer that reconnects to the broker within a second: jobs must start within 2 s of its return."""

import logging
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer
from kombu.asynchronous import set_event_loop

log = logging.getLogger(__name__)

_LONGEST_SECONDS = 1.0
_STEP_SECONDS = 0.2


class PatientConsumer(Consumer):
    """Celery's consumer, which tries the broker at least once a second.

    Celery's own pause grows to 30 s, and no setting bounds it.
    """

    hub: Any
    # Set once the worker has a heartbeat.
    tell_whether_it_hears: Callable[..., None] | None = None
    _retires = False

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc,valid-type] # not in Celery's stubs
        """Celery's start steps, without the 28 queues that it declares on RabbitMQ for delays: ours are rows."""

        default_steps = tuple(step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in str(step))

    def ensure_connected(self, conn: Any) -> Any:
        """Waits for the broker without limit, then connects as Celery does."""
        conn.ensure_connection(
            _say, interval_start=_STEP_SECONDS, interval_step=_STEP_SECONDS, interval_max=_LONGEST_SECONDS
        )
        return super().ensure_connected(conn)

    def on_ready(self) -> None:
        """Tells the heartbeat that messages reach this worker: at the start and after each reconnect."""
        super().on_ready()
        if self.tell_whether_it_hears:
            self.tell_whether_it_hears(hears=not self._retires)

    def stop_taking(self) -> None:
        """Takes no more messages, after a reconnect neither; what it has goes on. For the main thread."""
        self._retires = True
        if self.tell_whether_it_hears:
            self.tell_whether_it_hears(hears=False)
        for queue in list(self.app.amqp.queues.consume_from):
            self.call_soon(self.cancel_task_queue, queue)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Handles a lost connection as Celery does, without an AttributeError of kombu 5.7.

        With messages unacknowledged kombu asks a connection that it has just closed for its host, and the error would
        end the worker.
        """
        if self.tell_whether_it_hears:
            self.tell_whether_it_hears(hears=False)
        try:
            super().on_connection_error_after_connected(exc)
        except AttributeError as error:
            log.warning("the lost connection was not closed cleanly, its messages are sent again: %s", error)
        if self.hub:
            # Celery 5.7 has reset its event loop, which kombu's SQS then lacks: the loop must be the current one again,
            # and have no closed HTTP client. Else nothing more would be received.
            set_event_loop(self.hub)
            self.hub.__dict__.pop("_current_http_client", None)


def _say(error: Exception, interval: float) -> None:
    log.warning("the broker is away, asking again in %.1f s: %s", interval, error)
