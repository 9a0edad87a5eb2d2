"""What those who look at partitions cost: a scrape, the overview, and a downstream's table; with few and with many."""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.backlog.rows import fresh
from benchmarks.lanes.figures import Line, in_turns
from tests.support.jobs import submit_to_partitions
from tests.support.statements import asked
from tests.support.web import Web
from webapp.context import Context
from webapp.page.partition_table import PartitionSearch, PartitionTable

_OPERATIONS = """\
[downstreams.crm]
rate = "200/s"
partition = "header"
each = { rate = "2/s", concurrency = 1 }

[operations.order]
url = "http://127.0.0.1:1/order"
downstream = "crm"
timeout = "12h"
"""
_JOBS = 2
_LOOKS = 5


class ManyPartitions:
    """A web process, and so many partitions of one downstream with two jobs each that wait."""

    def __init__(self, url: str, folder: str, count: int) -> None:
        self.web = Web(Path(folder), url, operations_toml=_OPERATIONS, operations=())
        self.web.declare()
        names = [f"customer-{number:05}" for number in range(count)]
        submit_to_partitions(self.web.store, names, lane="crm", operation="order", each=_JOBS)
        self.web.store.samples.sample()
        self._table = PartitionTable.read(self._own, "crm", PartitionSearch())
        for look in (self.scrape, self.overview, self.table, self.list):
            look()

    def scrape(self) -> None:
        """What Prometheus asks for every 15 s."""
        assert b"customer-" in self.web.client.get("/metrics").data

    def overview(self) -> None:
        """What all viewers of the overview cost together, once a second."""
        parts = self.web.app.extensions["tidegate.page"]
        parts.board.refresh()
        assert "customer-" in parts.now(None)["downstreams"]

    def table(self) -> None:
        """What a viewer of the table costs, every two seconds."""
        assert "customer-" in self._table.parts(self._own, self.web.app.jinja_env)["table"]

    def list(self) -> None:
        """The table when it is asked for: a look at all partitions."""
        PartitionTable.read(self._own, "crm", PartitionSearch())

    def statements(self, look: Callable[["ManyPartitions"], None]) -> float:
        """How many the look asks, the mean of some."""
        with asked(self.web.database) as seen:
            for _ in range(_LOOKS):
                look(self)
        return len(seen.statements) / _LOOKS

    def milliseconds(self, look: Callable[["ManyPartitions"], None]) -> float:
        """How long the look takes, the mean of some."""
        began = time.perf_counter()
        for _ in range(_LOOKS):
            look(self)
        return 1e3 * (time.perf_counter() - began) / _LOOKS

    @property
    def _own(self) -> Context:
        own: Context = self.web.app.extensions["tidegate"]
        return own


def seen(kind: str, title: str, *, partitions: int, rounds: int) -> list[Line]:
    """Ten partitions and many."""
    looks = {
        "a scrape of /metrics": ManyPartitions.scrape,
        "a refresh of the overview": ManyPartitions.overview,
        "a refresh of the table of partitions": ManyPartitions.table,
        "the table when it is asked for": ManyPartitions.list,
    }
    with ExitStack() as stack:
        few, many = (
            ManyPartitions(stack.enter_context(fresh(kind)), stack.enter_context(tempfile.TemporaryDirectory()), number)
            for number in (10, partitions)
        )
        lines = []
        for name, look in looks.items():
            what = f"{name}: 10 and {partitions} partitions"
            counts = in_turns(partial(few.statements, look), partial(many.statements, look), 1)
            lines.append(Line(what=what, database=title, unit="statements", few=counts[0], many=counts[1]))
            times = in_turns(partial(few.milliseconds, look), partial(many.milliseconds, look), rounds)
            lines.append(Line(what=what, database=title, unit="ms", few=times[0], many=times[1]))
        for side in (few, many):
            side.web.close()
    return lines
