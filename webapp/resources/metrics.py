"""The route /metrics for Prometheus: metrics of the whole cluster, whichever web process answers.

What was counted anywhere lies in the database; what is a fact of its rows is read from them at the scrape.
"""

import logging
from collections.abc import Collection

from flask import Blueprint, Response
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from tidegate.database.connection import UNREACHABLE
from tidegate.errors import DatabaseTooSlowError
from tidegate.maintenance.cluster_facts import PartitionFacts
from tidegate.maintenance.partition_facts import partition_facts
from tidegate.stores import Store
from webapp.context import Context, context
from webapp.http.auth import monitor
from webapp.http.exposition import (
    counted,
    database_up,
    nothing_yet,
    of_lanes,
    of_partitions,
    of_scale,
    of_the_cluster,
)
from webapp.openapi import answers
from webapp.openapi.route import described
from webapp.resources.scale import of_each_queue

log = logging.getLogger(__name__)

routes = Blueprint("metrics", __name__)


@routes.get("/metrics")
@described(id="readMetrics", tag="Health", answers=answers.exposition, needs="metrics", uses_database=False)
def read() -> Response:
    """Returns Prometheus metrics of the whole cluster, as text."""
    try:
        monitor()
        families = _everything(context())
    except UNREACHABLE as error:
        # Also without a key: it says no more than /health/ready. An alert can tell this from a web server that is down.
        log.warning("metrics: the database can't be reached: %s", error)
        families = [database_up(0)]
    return Response(generate_latest(_Collected(families)), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Collected(Collector):
    """A prometheus_client Collector of ready-made families."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _everything(own: Context) -> list[Metric]:
    own.count_writer.run_once()
    store = own.store
    busiest = store.counted.busiest()
    names = busiest.names
    views = own.lanes.views(fresh=True) if names is None else own.lanes.views_now(names)
    rest = None if names is None else store.facts.rest(views)
    shared = [name for name, limits in own.registry.downstreams.items() if limits.sharing]
    facts, held = store.facts.read(), store.lanes.held()
    counts = {**busiest.folded(nothing_yet(own.registry)), **busiest.own(store.counted.all())}
    return [
        database_up(1),
        *of_the_cluster(facts, list(views.values()), own.registry, rest=rest),
        *of_scale(of_each_queue(own)),
        *of_lanes(views, facts, held, rest=rest),
        *of_partitions(_partitions(store, shared)),
        *counted(counts),
    ]


def _partitions(store: Store, lanes: Collection[str]) -> PartitionFacts | None:
    try:
        return partition_facts(store, lanes)
    except DatabaseTooSlowError as error:
        log.warning("metrics: partitions are left out: %s", error)
        return None
