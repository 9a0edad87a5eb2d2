"""Loads the registry of all operations: HTTP operations from the operations file, Python operations from modules."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from config.batch_checks import lane_faults
from config.environment import environment
from config.modules import load_operations
from config.operations_file import OperationsFile, read_operations_file
from config.partition_tables import SharedBy
from config.settings import Settings
from config.table_faults import meant
from tidegate.errors import ConfigurationError
from tidegate.operations.declaration import coroutine_fault, place_of
from tidegate.operations.python_operation import PythonOperation
from tidegate.operations.queues import OwnQueue, pools_of
from tidegate.operations.registry import Registry
from tidegate.operations.sharing import Sharing


@dataclass(frozen=True, kw_only=True)
class Declared:
    """All declared operations and limits, and all faults, each a line. With faults it is of no use."""

    file: OperationsFile
    functions: Sequence[PythonOperation]
    faults: Sequence[str]
    shared_by: SharedBy = "none"

    def registry(self) -> Registry:
        """Makes the Registry; raises ConfigurationError with every fault."""
        if self.faults:
            raise ConfigurationError(*self.faults)
        usual = Sharing() if self.shared_by == "client" else None
        return Registry.of([*self.file.operations, *self.functions], self.file.limits, self.file.queues, sharing=usual)


def load_registry(settings: Settings) -> Registry:
    """Loads the registry without secrets, for web server and scheduler. Raises ConfigurationError with every fault."""
    return read_declared(settings, None).registry()


def load_registry_with_secrets(settings: Settings) -> Registry:
    """Loads the registry for workers. A `${NAME}` that the environment does not have is a fault, too."""
    return read_declared(settings, environment()).registry()


def own_queues(settings: Settings) -> Sequence[OwnQueue]:
    """The queues that the operations file declares, as far as it can be read; `load_registry` tells its faults."""
    return read_operations_file(settings.operations_file, max_result=settings.max_result).queues


def read_declared(settings: Settings, secrets: Mapping[str, str] | None) -> Declared:
    """Reads the operations file and imports the modules. `secrets` None: references stay unexpanded."""
    shared_by: SharedBy = "client" if settings.auth == "keys" else "none"
    file = read_operations_file(
        settings.operations_file,
        max_result=settings.max_result,
        ca_file=settings.ca_file,
        environment=secrets,
        shared_by=shared_by,
    )
    functions, faults = load_operations(settings.operations)
    all_faults = [*file.faults, *faults, *_between_them(file, functions, settings)]
    return Declared(file=file, functions=functions, faults=all_faults, shared_by=shared_by)


def _between_them(file: OperationsFile, functions: Sequence[PythonOperation], settings: Settings) -> Iterator[str]:
    """The faults that neither the file nor one module shows alone: names used twice, unknown downstreams."""
    pools = pools_of(file.queues)
    in_file = {operation.name for operation in file.operations}
    first: dict[str, str] = {}
    for function in functions:
        place, name = place_of(function.function), function.name
        if name in in_file or name in first:
            other = file.place_of(name) if name in in_file else first[name]
            yield f"{place}: operation {name}: {other} has an operation of this name, too; rename one"
        first.setdefault(name, place)
        lane = function.downstream
        # An operation that names none has one of its own name. A misspelt name must not mean that there is no limit.
        if lane != name and file.lines is not None and lane not in file.downstreams:
            how = f"write [downstreams.{lane}] into {settings.operations_file}"
            close = meant(lane, file.downstreams)
            yield f"{place}: operation {name}: its downstream {lane!r} is declared nowhere{close}; {how}"
        if function.batch:
            is_paced = any(each.name == lane and each.rates for each in file.limits)
            for key, words in lane_faults(function.batch, is_strict=lane in file.strict, is_paced=is_paced):
                yield f"{place}: operation {name}: {'.'.join(key)}: {words}"
        if function.queue not in pools and file.lines is not None:
            how = f"write [queues.{function.queue}] into {settings.operations_file}"
            close = meant(function.queue, pools)
            yield f"{place}: operation {name}: its queue {function.queue!r} is declared nowhere{close}; {how}"
        elif reason := coroutine_fault(function.function, function.queue, pools):
            yield f"{place}: operation {name}: {reason}"
