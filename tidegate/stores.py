"""All statements of one database: the stores of every room, put together for a process.

Each move of a job is ONE guarded UPDATE whose row count tells who won: the database decides every race,
Python never reads a state and then writes one.
"""

from collections.abc import Mapping
from datetime import timedelta

from tidegate.database.clock_sync import DatabaseClock
from tidegate.database.connection import Database
from tidegate.dispatch.lane_rows import LaneRowStore
from tidegate.dispatch.limits import LimitStore
from tidegate.dispatch.partitions.admin import PartitionAdmin
from tidegate.dispatch.partitions.counts import PartitionCountStore
from tidegate.dispatch.partitions.overview import PartitionOverviewStore
from tidegate.dispatch.samples import SampleStore
from tidegate.dispatch.store import LaneStore
from tidegate.execution.batch_store import BatchStore
from tidegate.execution.claims import ClaimStore
from tidegate.execution.heartbeat_store import HeartbeatStore
from tidegate.execution.outcome_store import OutcomeStore
from tidegate.execution.slot_store import SlotStore
from tidegate.execution.token_store import TokenStore
from tidegate.intake.store import SubmissionStore
from tidegate.jobs.history_store import HistoryStore
from tidegate.jobs.store import JobStore
from tidegate.maintenance.fact_store import FactStore
from tidegate.maintenance.overview import OverviewStore
from tidegate.maintenance.scale_store import ScaleStore
from tidegate.maintenance.store import MaintenanceStore
from tidegate.metrics.counters import Counts
from tidegate.metrics.store import CountStore
from tidegate.webhooks.send_store import SendingStore
from tidegate.webhooks.store import DeliveryStore


class Store:
    """One object for each group of statements on a database.

    `counts`: what this process did to it, for the metrics; `counted` reads what all processes did. `fills`: how many
    jobs a call to each downstream has, as its operations declare (`Registry.fills`), for who samples.
    """

    def __init__(
        self,
        database: Database,
        *,
        retention: timedelta = timedelta(days=7),
        fills: Mapping[str, int] | None = None,
    ) -> None:
        self.database = database
        self.counts = Counts()
        self.callers = JobStore(database, self.counts, retention=retention)
        self.submissions = SubmissionStore(database)
        database_clock = DatabaseClock()
        self.claims = ClaimStore(database, database_clock)
        self.workers = OutcomeStore(database, self.counts)
        self.batches = BatchStore(database, self.counts)
        self.heartbeats = HeartbeatStore(database, self.counts, database_clock)
        self.limits = LimitStore(database)
        self.partitions = PartitionAdmin(database)
        self.samples = SampleStore(database, fills)
        self.partition_counts = PartitionCountStore(database)
        self.partition_overview = PartitionOverviewStore(database)
        self.lane_rows = LaneRowStore(database)
        self.lanes = LaneStore(database)
        self.slots = SlotStore(database, database_clock)
        self.tokens = TokenStore(database)
        self.upkeep = MaintenanceStore(database, self.counts)
        self.deliveries = DeliveryStore(database)
        self.sending = SendingStore(database, self.counts)
        self.counted = CountStore(database)
        self.facts = FactStore(database)
        self.scale = ScaleStore(database, self.lane_rows, fills)
        self.overview = OverviewStore(database)
        self.timeline = HistoryStore(database)


__all__ = [
    "BatchStore",
    "ClaimStore",
    "CountStore",
    "DeliveryStore",
    "FactStore",
    "HeartbeatStore",
    "HistoryStore",
    "JobStore",
    "LaneRowStore",
    "LaneStore",
    "LimitStore",
    "MaintenanceStore",
    "OutcomeStore",
    "OverviewStore",
    "PartitionAdmin",
    "PartitionCountStore",
    "PartitionOverviewStore",
    "SampleStore",
    "ScaleStore",
    "SendingStore",
    "SlotStore",
    "Store",
    "SubmissionStore",
    "TokenStore",
]
