"""Loads the registry of all operations: HTTP operations from the operations file, Python operations from modules."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from config.environment import environment
from config.modules import load_operations
from config.operations_file import OperationsFile, read_operations_file
from config.partition_tables import SharedBy
from config.settings import Settings
from tidegate.errors import ConfigurationError
from tidegate.operations.declaration import place_of
from tidegate.operations.operation import Registry
from tidegate.operations.python_operation import PythonOperation
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
        return Registry.of([*self.file.operations, *self.functions], self.file.limits, sharing=usual)


def load_registry(settings: Settings) -> Registry:
    """Loads the registry without secrets, for web server and scheduler. Raises ConfigurationError with every fault."""
    return read_declared(settings, None).registry()


def load_registry_with_secrets(settings: Settings) -> Registry:
    """Loads the registry for workers. A `${NAME}` that the environment does not have is a fault, too."""
    return read_declared(settings, environment()).registry()


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
            close = get_close_matches(lane, file.downstreams, n=1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            how = f"write [downstreams.{lane}] into {settings.operations_file}"
            yield f"{place}: operation {name}: its downstream {lane!r} is declared nowhere{meant}; {how}"
