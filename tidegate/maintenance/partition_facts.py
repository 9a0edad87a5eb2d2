"""Statistics of partitions for /metrics: the busiest by name and the rest as one. Not every partition is read."""

from collections.abc import Collection, Mapping
from typing import Protocol

from tidegate.dispatch.partitions.busiest import Busiest, Busy
from tidegate.dispatch.partitions.overview import Line, PartitionOverviewStore
from tidegate.dispatch.partitions.view import Where
from tidegate.maintenance.cluster_facts import BusyPartition, PartitionFacts, SharedLane
from tidegate.metrics.busiest import REST
from tidegate.metrics.store import CountStore, partition_label, partition_of
from tidegate.operations.sharing import named_by


class Stores(Protocol):
    """The stores that are read (`tidegate.stores.Store` has them)."""

    partition_overview: PartitionOverviewStore
    counted: CountStore


def partition_facts(store: Stores, lanes: Collection[str]) -> PartitionFacts | None:
    """Reads them of these shared downstreams, in at most six statements, and once a minute four more.

    None: there are no such downstreams.
    """
    if not lanes:
        return None
    overview = store.partition_overview
    found, elsewhere = overview.busiest()
    sampled = {lane: busiest for lane, busiest in found.items() if lane in lanes}  # not of one that is shared no more
    known = {Where(lane, each.key): each for lane, busiest in sampled.items() for each in busiest.named}
    labels = {partition_label(*where): each.waiting for where, each in known.items()}

    def counted(others: Collection[str]) -> dict[str, int]:
        found = overview.lines([Where(*partition_of(label)) for label in others], counted=True)
        return {partition_label(*where): line.number or 0 for where, line in found.items()}

    named = [Where(*partition_of(label)) for label in store.counted.busiest_partitions(labels, lanes, counted)]
    oldest = _oldest_of_others(sampled, named)
    told = {where for where in named if where in known} | ({oldest} if oldest else set())
    lines = overview.lines(told, counted=False)
    lines |= overview.lines({*named} - told, counted=True)
    waiting = {where: known[where].waiting if where in known else lines[where].number or 0 for where in named}
    places = overview.places()
    clients = overview.names({client for client, _ in (named_by(where.key) for where in named) if client})
    busiest = [
        _fact(where, clients, waiting[where], places.get(where, 0), lines.get(where))
        for where in sorted(named, key=lambda each: (-waiting[each], each))
    ]
    in_all = elsewhere + sum(each.waiting for each in sampled.values())
    return PartitionFacts(
        busiest=busiest,
        rest=BusyPartition(
            lane=REST,
            client=REST,
            name=REST,
            waiting=max(0, in_all - sum(waiting.values())),
            open=sum(places.values()) - sum(each.open for each in busiest),
            oldest_seconds=_age(lines.get(oldest) if oldest else None),
        ),
        lanes={
            lane: SharedLane(partitions=each.number, most_waiting=each.named[0].waiting if each.named else 0)
            for lane, each in sampled.items()
        },
    )


def _oldest_of_others(sampled: Mapping[str, Busiest], named: Collection[Where]) -> Where | None:
    """Of all partitions without a name in the metrics the one whose first job has the lowest rank."""
    every = {
        Where(lane, each.key): each
        for lane, busiest in sampled.items()
        for each in (*busiest.named, busiest.oldest_of_rest)
        if each is not None
    }

    def by_rank(found: tuple[Where, Busy]) -> tuple[int, Where]:
        return found[1].first, found[0]

    others = [(where, each) for where, each in every.items() if where not in named]
    return min(others, key=by_rank)[0] if others else None


def _fact(where: Where, clients: Mapping[str, str], waiting: int, places: int, line: Line | None) -> BusyPartition:
    client, name = named_by(where.key)
    return BusyPartition(
        lane=where.lane,
        client=clients.get(client, client),
        name=name,
        waiting=waiting,
        open=places,
        oldest_seconds=_age(line),
    )


def _age(line: Line | None) -> float:
    return max(0.0, line.due_for or 0.0) if line else 0.0
