"""Every statement about jobs, by who makes it: callers, workers,
their heartbeat (presence), the gate (lanes), the sweep (upkeep), a worker that waits to call (slots).

Each move of a job is ONE guarded UPDATE whose row count tells who won: the database decides every race,
Python never reads a state and then writes one.
"""

from datetime import timedelta

from tidegate.counts import Counts
from tidegate.database import Database
from tidegate.store.callers import CallerStore
from tidegate.store.claims import ClaimStore
from tidegate.store.counted import CountStore
from tidegate.store.deliveries import DeliveryStore
from tidegate.store.facts import FactStore
from tidegate.store.lanes import LaneStore
from tidegate.store.limits import LimitStore
from tidegate.store.overview import OverviewStore
from tidegate.store.presence import PresenceStore
from tidegate.store.samples import SampleStore
from tidegate.store.sending import SendingStore
from tidegate.store.slots import SlotStore
from tidegate.store.timeline import TimelineStore
from tidegate.store.upkeep import UpkeepStore
from tidegate.store.workers import WorkerStore


class Store:
    """The faces of one database. `counts`: what this process did to it, for the metrics; `counted` has everybody's."""

    def __init__(self, database: Database, *, retention: timedelta = timedelta(days=7)) -> None:
        self.database = database
        self.counts = Counts()
        self.callers = CallerStore(database, self.counts, retention=retention)
        self.claims = ClaimStore(database)
        self.workers = WorkerStore(database, self.counts)
        self.presence = PresenceStore(database, self.counts)
        self.limits = LimitStore(database)
        self.samples = SampleStore(database)
        self.lanes = LaneStore(database)
        self.slots = SlotStore(database)
        self.upkeep = UpkeepStore(database, self.counts)
        self.deliveries = DeliveryStore(database)
        self.sending = SendingStore(database, self.counts)
        self.counted = CountStore(database)
        self.facts = FactStore(database)
        self.overview = OverviewStore(database)
        self.timeline = TimelineStore(database)


__all__ = [
    "CallerStore",
    "ClaimStore",
    "CountStore",
    "DeliveryStore",
    "FactStore",
    "LaneStore",
    "LimitStore",
    "OverviewStore",
    "PresenceStore",
    "SampleStore",
    "SendingStore",
    "SlotStore",
    "Store",
    "TimelineStore",
    "UpkeepStore",
    "WorkerStore",
]
