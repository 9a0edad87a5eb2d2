"""Prometheus metric families, made of the summed counters, the cluster's statistics and the lanes."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from tidegate.dispatch.lane_view import LaneView
from tidegate.dispatch.scale import Wanted
from tidegate.errors import CannotFinishInTime
from tidegate.maintenance.cluster_facts import MOST_DELIVERIES, Facts, PartitionFacts, Rest
from tidegate.maintenance.sweep import Swept
from tidegate.metrics.busiest import REST
from tidegate.metrics.counters import Key, bound_text
from tidegate.metrics.families import (
    CALLS,
    DELIVERIES_FAILED,
    DELIVERY_ATTEMPTS,
    FAMILIES,
    FINISHED,
    LATE,
    REFUSALS,
    SUBMITS,
    SWEPT,
    UNSENT,
    Family,
)
from tidegate.operations.queues import WEBHOOKS
from tidegate.operations.registry import Registry
from tidegate.rate import Rate
from tidegate.states import State
from tidegate.webhooks.delivery import OUTCOMES as DELIVERY_OUTCOMES
from webapp.http.problems import INTERNAL_ERROR
from webapp.http.refusals import REFUSALS as REASONS

Number = TypeVar("Number", int, float)


def database_up(up: int) -> Metric:
    """The gauge of whether the database answers: the only metric while it does not."""
    return GaugeMetricFamily("tidegate_database_up", "Whether the database answers; 0: nothing else is told.", up)


def of_the_cluster(
    facts: Facts, lanes: list[LaneView], registry: Registry, *, rest: Rest | None = None
) -> Iterator[Metric]:
    """Gauges of jobs by state, schedulers, workers, operations and pending webhooks. `rest`: of lanes beside these."""
    jobs = _gauge("tidegate_jobs", "Jobs by state; final ones are counted once a minute.", "state")
    waiting = sum(lane.sample.backlog for lane in lanes if lane.sample) + (rest.backlog if rest else 0)
    numbers = {State.QUEUED.value: waiting + facts.released, State.RUNNING.value: facts.running, **facts.final}
    for state in State:
        jobs.add_metric([state], numbers[state])
    yield jobs
    yield GaugeMetricFamily("tidegate_stewards", "Schedulers that did their turns within 15 s.", facts.stewards)
    workers = _gauge("tidegate_worker_slots", "Attempts that the live workers run side by side.", "queue")
    operations = _gauge("tidegate_operations", "Operations that want such a worker.", "queue")
    for queue in sorted({*registry.queues, WEBHOOKS, *facts.workers}):
        workers.add_metric([queue], facts.workers.get(queue, 0))
    for queue in registry.queues:
        operations.add_metric([queue], sum(each.queue == queue for each in registry.operations.values()))
    yield from (workers, operations)
    pending = f"Webhooks that are yet to be sent, or sent again; {MOST_DELIVERIES} stands for more, too."
    yield GaugeMetricFamily("tidegate_webhooks_pending", pending, facts.deliveries)
    name = "tidegate_database_oldest_snapshot_transactions"
    yield GaugeMetricFamily(name, "Transactions begun since the oldest that is still open.", facts.oldest_snapshot)


def of_scale(queues: Mapping[str, Wanted]) -> Iterator[Metric]:
    """Gauges of the workers that each queue has and could use."""
    workers = _gauge("tidegate_workers", "Workers that live.", "queue")
    wanted = _gauge("tidegate_workers_wanted", "Workers that could be used now, or within the last minute.", "queue")
    for queue, each in queues.items():
        workers.add_metric([queue], each.workers)
        wanted.add_metric([queue], each.wanted)
    yield from (workers, wanted)


def of_lanes(
    views: Mapping[str, LaneView], facts: Facts, held: Mapping[str, int], *, rest: Rest | None = None
) -> Iterator[Metric]:
    """Gauges and counters of each downstream: its backlog, its limits, what it gets.

    `rest`: of all other downstreams together, which have one series where a sum, or the worst of them, says something.
    """
    others = {REST: rest} if rest else {}

    def of_each(name: str, meaning: str, values: Mapping[str, float]) -> Metric:
        family = _gauge(name, meaning, "downstream")
        for downstream, value in values.items():
            family.add_metric([downstream], value)
        return family

    rows = {name: view.downstream for name, view in views.items()}
    released = CounterMetricFamily(
        "tidegate_releases", "Calls that were let go to a worker, those taken back among them.", labels=["downstream"]
    )
    rates = _gauge("tidegate_downstream_rate_limit", "Calls a second that a rate of it allows.", "downstream", "rate")
    paused = _gauge("tidegate_downstream_paused", "Whether nothing goes out, and at whose wish.", "downstream", "by")
    for name, row in rows.items():
        released.add_metric([name], row.released)
        for rate in row.limits.rates:
            parsed = Rate.parse(rate)
            rates.add_metric([name, rate], 1e6 * parsed.calls / parsed.period)
        paused.add_metric([name, "operator"], row.paused)
        paused.add_metric([name, "downstream"], row.rests_until is not None and not row.is_broken)
    for name, of_rest in others.items():
        paused.add_metric([name, "operator"], of_rest.paused)
        paused.add_metric([name, "downstream"], of_rest.resting)
    yield of_each(
        "tidegate_backlog_jobs",
        "Jobs that wait for their release, at the scheduler's last look.",
        {name: view.sample.backlog if view.sample else 0 for name, view in views.items()}
        | {name: of_rest.backlog for name, of_rest in others.items()},
    )
    yield of_each(
        "tidegate_oldest_due_job_age_seconds",
        "For how long the first job of the downstream could have gone already; 0: none waits.",
        {name: facts.oldest_due_seconds.get(name, 0) for name in rows}
        | {name: max(_of_others(facts.oldest_due_seconds, rows), default=0) for name in others},
    )
    yield from (released, rates, paused)
    yield of_each(
        "tidegate_downstream_in_flight",
        "Places taken: calls that are open or on their way.",
        {name: held.get(name, 0) for name in rows} | {name: sum(_of_others(held, rows)) for name in others},
    )
    yield of_each(
        "tidegate_downstream_concurrency_limit",
        "Its places, where they are limited.",
        {name: row.limits.concurrency for name, row in rows.items() if row.limits.concurrency is not None},
    )
    yield of_each(
        "tidegate_downstream_breaker_open",
        "Whether its breaker is open: nothing goes out but single probes.",
        {name: row.is_broken for name, row in rows.items()}
        | {name: of_rest.broken for name, of_rest in others.items()},
    )
    yield of_each(
        "tidegate_downstream_failures_in_a_row",
        "Failed calls since the last that succeeded.",
        {name: row.failures for name, row in rows.items()},
    )


def of_partitions(facts: PartitionFacts | None) -> Iterator[Metric]:
    """Gauges of the busiest partitions, of all others as one, and of each downstream's largest; None: nobody shares."""
    labels = ("downstream", "client", "partition")
    waiting = _gauge("tidegate_partition_waiting_jobs", "Jobs of a partition that wait for their release.", *labels)
    places = _gauge("tidegate_partition_in_flight", "Places that a partition has taken of its downstream's.", *labels)
    oldest = _gauge(
        "tidegate_partition_oldest_due_job_age_seconds",
        "For how long the first job of a partition could have gone already; 0: none waits.",
        *labels,
    )
    for each in (*facts.busiest, facts.rest) if facts else ():
        values = (each.lane, each.client, each.name)
        waiting.add_metric(values, each.waiting)
        places.add_metric(values, each.open)
        oldest.add_metric(values, each.oldest_seconds)
    number = _gauge("tidegate_waiting_partitions", "Partitions of a downstream in which jobs wait.", "downstream")
    largest = _gauge(
        "tidegate_largest_partition_waiting_jobs",
        "Jobs that wait in the one partition of a downstream that has the most.",
        "downstream",
    )
    for name, lane in facts.lanes.items() if facts else ():
        number.add_metric([name], lane.partitions)
        largest.add_metric([name], lane.most_waiting)
    yield from (waiting, places, oldest, number, largest)


def _of_others(values: Mapping[str, Number], named: Collection[str]) -> list[Number]:
    return [value for name, value in values.items() if name not in named]


def nothing_yet(registry: Registry) -> dict[Key, float]:
    """Series at 0 whose first event matters to an alert: one that begins at 1 has not increased, for Prometheus."""
    found: dict[Key, float] = {(SWEPT.name, (each.name,)): 0 for each in fields(Swept)}
    found |= {(UNSENT.name, (queue,)): 0 for queue in registry.queues}
    found |= {(DELIVERY_ATTEMPTS.name, (outcome,)): 0 for outcome in DELIVERY_OUTCOMES}
    found[DELIVERIES_FAILED.name, ()] = 0
    for name, operation in registry.operations.items():
        found[CALLS.name, (operation.downstream,)] = 0
        found[LATE.name, (name, operation.downstream)] = 0
        found |= {(FINISHED.name, (name, state.value)): 0 for state in State if state.is_final}
        found |= {(SUBMITS.name, (name, result)): 0 for result in ("recorded", "replayed")}
        found[REFUSALS.name, (name, REASONS[CannotFinishInTime][1])] = 0
    found |= {(REFUSALS.name, (name, INTERNAL_ERROR[0])): 0 for name in ("", *registry.operations)}
    return found


def counted(counts: Mapping[Key, float]) -> Iterator[Metric]:
    """Every counter and histogram; families that have counted nothing yet have no series."""
    for family in FAMILIES:
        if family.buckets:
            yield _histogram(family, counts)
            continue
        counter = CounterMetricFamily(family.name, family.meaning, labels=family.labels)
        for (series, labels), value in counts.items():
            if series == family.name and len(labels) == len(family.labels):
                counter.add_metric(labels, value)
        yield counter


def _histogram(family: Family, counts: Mapping[Key, float]) -> Metric:
    histogram = HistogramMetricFamily(family.name, family.meaning, labels=family.labels)
    bounds = [bound_text(bound) for bound in (*family.buckets, float("inf"))]
    for (series, labels), total in counts.items():
        if series == f"{family.name}_sum" and len(labels) == len(family.labels):
            within = accumulate(counts.get((f"{family.name}_bucket", (*labels, bound)), 0) for bound in bounds)
            histogram.add_metric(labels, list(zip(bounds, within, strict=True)), sum_value=total)
    return histogram


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, labels=labels)
