"""The metrics that are counted: each one's name, labels and help text.

Labels are names of operations and downstreams, states and reasons: there is a bounded number of each, and never a
client or a job among them. What the rows say by themselves is in `tidegate/maintenance/fact_store.py`.
"""

from dataclasses import dataclass

# From a call that is answered at once to one that takes ten minutes; a wait for a pace may take longer yet.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
_LONG_SECONDS = (*_SECONDS, 3600.0, 14400.0)


@dataclass(frozen=True)
class Family:
    """A metric with its labels. `buckets`: the upper bounds of a histogram, rising; none: it is a counter."""

    name: str
    meaning: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


SUBMITS = Family(
    "tidegate_submits_total",
    "Submits that were taken: recorded as a new job, or replayed, the job of an Idempotency-Key used before.",
    ("operation", "result"),
)
REFUSALS = Family(
    "tidegate_refusals_total",
    "Requests that were refused, by the end of their problem's type; of a bulk submit, each job.",
    ("operation", "reason"),
)
FINISHED = Family("tidegate_jobs_finished_total", "Jobs that reached a final state.", ("operation", "state"))
QUEUE_WAIT = Family(
    "tidegate_queue_wait_seconds",
    "From the moment a job could run, at its submit or after a retry's delay, to a worker's claim.",
    ("downstream",),
    _LONG_SECONDS,
)
SLOT_WAIT = Family(
    "tidegate_slot_wait_seconds",
    "From the claim to the beginning of the call: a worker's thread that waits for its turn and slot.",
    ("downstream",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5),
)
ATTEMPT_SECONDS = Family(
    "tidegate_attempt_seconds",
    "An attempt from the beginning of its call to its end, without its waits.",
    ("operation", "downstream"),
    _SECONDS,
)
BATCH_JOBS = Family(
    "tidegate_batch_jobs",
    "How many jobs went together in one call of an operation that takes several.",
    ("operation", "downstream"),
    (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0),
)
HALVED = Family(
    "tidegate_batches_halved_total",
    "Calls for several jobs that failed by what they contained, and were tried again in halves.",
    ("operation", "downstream"),
)
ATTEMPTS = Family(
    "tidegate_attempts_total",
    "Attempts that ended: succeeded, failed for good, error (another may follow), refused by the downstream, or "
    "handed back.",
    ("operation", "downstream", "outcome"),
)
LATE = Family(
    "tidegate_late_results_total",
    "Results and errors that came after the deadline or from a worker that had lost its job, and were dropped.",
    ("operation", "downstream"),
)
CALLS = Family("tidegate_calls_total", "Calls that began: the part of the rate that was used.", ("downstream",))
SWEPT = Family(
    "tidegate_sweep_actions_total",
    "Rows that the sweep moved: expired, rescued (their worker fell silent), unclaimed (their message was lost), freed "
    "(places of the dead), pruned.",
    ("action",),
)
UNSENT = Family(
    "tidegate_releases_taken_back_total",
    "Releases that were taken back at once because the broker was away.",
    ("queue",),
)
TAKEN_BACK = Family(
    "tidegate_jobs_taken_back_total",
    "Jobs that a worker gave back: of a child process that died, or handed back when it stopped.",
    ("queue", "reason"),
)
DELIVERY_ATTEMPTS = Family(
    "tidegate_webhook_attempts_total",
    "Sendings of webhooks: delivered, not_taken (another status than 2xx), no_answer, not_sent.",
    ("outcome",),
)
DELIVERIES_FAILED = Family("tidegate_webhooks_failed_total", "Webhooks that were given up.", ())
DELIVERY_SECONDS = Family("tidegate_webhook_seconds", "One sending of a webhook.", (), _SECONDS)

FAMILIES = (
    SUBMITS,
    REFUSALS,
    FINISHED,
    QUEUE_WAIT,
    SLOT_WAIT,
    ATTEMPT_SECONDS,
    BATCH_JOBS,
    HALVED,
    ATTEMPTS,
    LATE,
    CALLS,
    SWEPT,
    UNSENT,
    TAKEN_BACK,
    DELIVERY_ATTEMPTS,
    DELIVERIES_FAILED,
    DELIVERY_SECONDS,
)
