"""The Celery app and its configuration. `celery -A tasks.app worker -Q io` and `-Q cpu` start workers."""

import sys
import warnings

from celery import Celery
from celery.exceptions import SecurityWarning
from kombu.transport import TRANSPORT_ALIASES

from config.registry import own_queues
from config.settings import settings
from tasks.brokers.options import REDIS_TRANSPORTS, settings_for
from tidegate.errors import ConfigurationError

try:
    settings()
except ConfigurationError as error:  # Celery would show a traceback, and exit with another code
    print(error, file=sys.stderr)  # noqa: T201 - the log is not set up yet
    sys.exit(2)

# Of running as root, in six lines for each worker. Messages are JSON, so nobody's code comes in by them.
warnings.filterwarnings("ignore", category=SecurityWarning)

app = Celery("tidegate", include=["tasks.run", "tasks.worker.process"])
app.conf.update(
    # Results are rows; a second store would double the writes and could disagree.
    result_backend=None,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    # Early acknowledgement: a lost message is re-released from its row within 5 s, so nothing is redelivered, and no
    # visibility timeout starts a second run of a long job.
    task_acks_late=False,
    worker_prefetch_multiplier=1,
    # Celery's own limits count per worker and collapse under a backlog; pacing is the gate's.
    worker_disable_rate_limits=True,
    # A refused publish must say so in milliseconds: the row is taken back and released again.
    task_publish_retry=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # a worker waits for its broker for ever
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_consumer="tasks.worker.consumer:PatientConsumer",
    # A child that is not up in time ends the whole worker; Celery's 4 s are too short on a busy machine.
    worker_proc_alive_timeout=60,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_enable_remote_control=True,
    # Flower learns of tasks by their events: sent, started, ended.
    worker_send_task_events=settings().events,
    task_send_sent_event=settings().events,
    task_default_queue="io",
    task_create_missing_queues=True,
)
TRANSPORT_ALIASES.update(REDIS_TRANSPORTS)
app.conf.update(settings_for(settings().broker_url, [own.name for own in own_queues(settings())]))
