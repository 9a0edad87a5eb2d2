"""The database schema: SQLAlchemy tables, with the constraints that make an impossible row impossible."""

from tidegate.database.schema.clients import IMPLICIT_CLIENT, clients, keys, sessions
from tidegate.database.schema.jobs import (
    UNSUCCESSFUL,
    WAITS_FOR_POLL,
    WAS_REFUSED,
    attempts,
    bodies,
    idempotency_keys,
    jobs,
)
from tidegate.database.schema.lanes import downstreams, partition_samples, partitions, samples, shared_clients
from tidegate.database.schema.metadata import metadata
from tidegate.database.schema.processes import counts, final_jobs, stewards, wanted_workers, workers
from tidegate.database.schema.tokens import oauth_tokens
from tidegate.database.schema.webhooks import deliveries, delivery_attempts, receivers, webhook_secrets

__all__ = [
    "IMPLICIT_CLIENT",
    "UNSUCCESSFUL",
    "WAITS_FOR_POLL",
    "WAS_REFUSED",
    "attempts",
    "bodies",
    "clients",
    "counts",
    "deliveries",
    "delivery_attempts",
    "downstreams",
    "final_jobs",
    "idempotency_keys",
    "jobs",
    "keys",
    "metadata",
    "oauth_tokens",
    "partition_samples",
    "partitions",
    "receivers",
    "samples",
    "sessions",
    "shared_clients",
    "stewards",
    "wanted_workers",
    "webhook_secrets",
    "workers",
]
