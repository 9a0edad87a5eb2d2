"""How partitions are named on the page, whatever names callers and operators have chosen."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.dispatch.partitions.overview import PartitionOverviewStore

_MOST_KEPT = 5_000


@dataclass(frozen=True, kw_only=True)
class PartitionName:
    """A partition as people know it. `client`: its client's name; empty: all share it, or there is only the one client.

    `name`: what the caller gave; empty: none.
    """

    client: str
    name: str


class ClientNames:
    """The names of clients by id, each asked for once: a name never changes."""

    def __init__(self, store: PartitionOverviewStore) -> None:
        self._store = store
        self._names: dict[str, str] = {}

    def of(self, pairs: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], PartitionName]:
        """The names of these partitions, given as client and name."""
        unknown = {client for client, _ in pairs if client not in {"", IMPLICIT_CLIENT}} - self._names.keys()
        if unknown:
            if len(self._names) > _MOST_KEPT:
                self._names = {}
            self._names |= {client: client for client in unknown} | self._store.names(unknown)
        names = self._names
        return {(client, name): PartitionName(client=names.get(client, ""), name=name) for client, name in pairs}
