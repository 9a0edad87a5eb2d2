"""Python client for Tidegate.

client = Client("https://tidegate.example", key)
client.submit("quote", {"sku": "A-100", "quantity": 3}).result(timeout=30)

`AsyncClient` is the same for asynchronous programs.
"""

from tidegate_client.async_client import AsyncClient
from tidegate_client.async_job import AsyncJob
from tidegate_client.client import Client
from tidegate_client.documents import (
    AnnouncedQuota,
    CalendarRate,
    Changes,
    DeclaredLimits,
    DeclaredPartition,
    Delivery,
    DeliveryAttempt,
    Downstream,
    DownstreamWarning,
    EventName,
    Limits,
    NewWebhookSecret,
    Operation,
    Partition,
    PartitionChanges,
    QueueScale,
    RetryPolicy,
    WebhookSecret,
)
from tidegate_client.errors import (
    ConnectionFailed,
    Fault,
    InvalidWebhook,
    JobCancelled,
    JobEnded,
    JobExpired,
    JobFailed,
    NotDone,
    OutcomeUnknown,
    Refused,
    SomeRefused,
    TidegateError,
    UnexpectedAnswer,
)
from tidegate_client.events import JobEvent
from tidegate_client.job import Job
from tidegate_client.known_job import RawResult
from tidegate_client.many import Counts, Filters
from tidegate_client.snapshot import Batch, JobError, Snapshot, State, Waiting
from tidegate_client.webhook import WebhookEvent, verify_webhook

__all__ = [
    "AnnouncedQuota",
    "AsyncClient",
    "AsyncJob",
    "Batch",
    "CalendarRate",
    "Changes",
    "Client",
    "ConnectionFailed",
    "Counts",
    "DeclaredLimits",
    "DeclaredPartition",
    "Delivery",
    "DeliveryAttempt",
    "Downstream",
    "DownstreamWarning",
    "EventName",
    "Fault",
    "Filters",
    "InvalidWebhook",
    "Job",
    "JobCancelled",
    "JobEnded",
    "JobError",
    "JobEvent",
    "JobExpired",
    "JobFailed",
    "Limits",
    "NewWebhookSecret",
    "NotDone",
    "Operation",
    "OutcomeUnknown",
    "Partition",
    "PartitionChanges",
    "QueueScale",
    "RawResult",
    "Refused",
    "RetryPolicy",
    "Snapshot",
    "SomeRefused",
    "State",
    "TidegateError",
    "UnexpectedAnswer",
    "Waiting",
    "WebhookEvent",
    "WebhookSecret",
    "verify_webhook",
]
