"""The registry of all operations and downstreams that a process knows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tidegate.errors import ConfigurationError, UnknownOperation
from tidegate.operations.batch import Batch
from tidegate.operations.limits import Limits
from tidegate.operations.operation import Operation
from tidegate.operations.queues import BUILT_IN, OwnQueue, Pool, pools_of
from tidegate.operations.sharing import Sharing


@dataclass(frozen=True)
class Registry:
    """The registry of all operations and downstreams that this process knows, and the pool of each queue."""

    operations: Mapping[str, Operation]
    downstreams: Mapping[str, Limits] = field(default_factory=dict)
    queues: Mapping[str, Pool] = field(default_factory=lambda: BUILT_IN)

    @classmethod
    def of(
        cls,
        operations: Iterable[Operation],
        downstreams: Iterable[Limits] = (),
        queues: Sequence[OwnQueue] = (),
        *,
        sharing: Sharing | None = None,
    ) -> "Registry":
        """Builds the registry; raises ConfigurationError for a name that is used twice.

        A downstream that is named by an operation and declared nowhere has no limits, and is shared in this way.
        """
        by_name: dict[str, Operation] = {}
        for operation in operations:
            if operation.name in by_name:
                raise ConfigurationError(f"two operations are named {operation.name!r}; rename one")
            by_name[operation.name] = operation
        limits = {declared.name: declared for declared in downstreams}
        for operation in by_name.values():
            limits.setdefault(operation.downstream, Limits(name=operation.downstream, sharing=sharing))
        return cls(by_name, limits, pools_of(queues))

    @property
    def downstream_of(self) -> dict[str, str]:
        """The name of each operation's downstream."""
        return {name: operation.downstream for name, operation in self.operations.items()}

    @property
    def batched(self) -> dict[str, Batch]:
        """The operations whose jobs go many in one call, and how many."""
        return {name: operation.batch for name, operation in self.operations.items() if operation.batch}

    @property
    def fills(self) -> dict[str, int]:
        """How many jobs a call to each downstream has while enough wait: the fewest that an operation declares."""
        found: dict[str, int] = {}
        for operation in self.operations.values():
            most = operation.batch.max if operation.batch else 1
            found[operation.downstream] = min(most, found.get(operation.downstream, most))
        return found

    def sharing(self, operation: Operation) -> Sharing | None:
        """How the calls of an operation's downstream are shared by partitions; None: they are not."""
        return self.downstreams[operation.downstream].sharing

    def passed_headers(self, name: str) -> tuple[str, ...]:
        """The headers of a submit that this operation passes on; none where there is no such operation."""
        found = self.operations.get(name)
        return found.pass_headers if found else ()

    def operation(self, name: str) -> Operation:
        """The operation of this name; raises UnknownOperation."""
        try:
            return self.operations[name]
        except KeyError:
            raise UnknownOperation(f"there is no operation {name!r}; GET /v1/operations lists them") from None
