"""Builds the table of all operations: those of the operations file and those in Python modules."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType

from config.operations_file import expander, is_url, read_operations_file
from config.settings import Settings, environment
from tidegate.errors import ConfigurationError
from tidegate.operations import Registry
from tidegate.python_operation import PythonOperation

# Imported by name: every face needs the operations, and the settings must not depend on a face.
OWN_OPERATIONS = "tasks.operations"


def load_registry(settings: Settings) -> Registry:
    """What the web server and the steward know: everything but the secrets."""
    return _load(settings, str)


def load_registry_with_secrets(settings: Settings) -> Registry:
    """What workers know. Raises ConfigurationError for a `${NAME}` that the environment does not have."""
    expand = expander(environment())
    registry = _load(settings, expand)
    for operation in read_operations_file(settings.operations_file, max_result=settings.max_result)[0]:
        for template in (operation.url, *operation.headers.values()):
            try:
                value = expand(template)
            except ConfigurationError as error:
                raise ConfigurationError(f"operation {operation.name}: {error}") from None
            if not value.isascii() or not value.isprintable() or (template == operation.url and not is_url(value)):
                raise ConfigurationError(
                    f"operation {operation.name}: {template!r} becomes something that can't be sent"
                )
    return registry


def _load(settings: Settings, expand: Callable[[str], str]) -> Registry:
    operations, limits = read_operations_file(settings.operations_file, max_result=settings.max_result, expand=expand)
    registry = Registry.of([*operations, *_python_operations(settings)], limits)
    declared = {limit.name for limit in limits}
    for operation in registry.operations.values():
        # An operation that names none has one of its own name. A slip of the pen must not mean that there is no limit.
        if operation.downstream not in declared and operation.downstream != operation.name:
            raise ConfigurationError(
                f"operation {operation.name}: its downstream {operation.downstream!r} is declared nowhere; "
                f"write [downstreams.{operation.downstream}] into {settings.operations_file}"
            )
    return registry


def _python_operations(settings: Settings) -> Iterator[PythonOperation]:
    package = importlib.import_module(OWN_OPERATIONS)
    names = [found.name for found in pkgutil.iter_modules(package.__path__) if not found.name.startswith("_")]
    for name in (*(f"{OWN_OPERATIONS}.{name}" for name in names), *settings.operations):
        yield from _operations_of(_imported(name))


def _operations_of(module: ModuleType) -> list[PythonOperation]:
    found = [value for value in vars(module).values() if isinstance(value, PythonOperation)]
    return [operation for operation in found if operation.function.__module__ == module.__name__]


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise ConfigurationError(f"TIDEGATE_OPERATIONS: there is no module {name}") from None
        raise
