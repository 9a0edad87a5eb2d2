"""Imports the modules with Python operations; what is wrong with one becomes a line that names file and line."""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from traceback import walk_tb
from types import ModuleType

from config.environment import place_of
from tidegate.errors import ConfigurationError
from tidegate.operations.declaration import Refused, faults_collected, one_line, shown
from tidegate.operations.python_operation import PythonOperation

# Imported by name: every face needs the operations, and the settings must not depend on a face.
OWN_OPERATIONS = "tasks.operations"
SETTING = "TIDEGATE_OPERATIONS"
GROUP = "tidegate.operations"
"""The entry points by which a distribution offers its modules: `[project.entry-points."tidegate.operations"]`."""
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def load_operations(modules: Sequence[str]) -> tuple[list[PythonOperation], list[str]]:
    """Loads the operations of tasks/operations/, of these modules and of installed distributions, each module once.

    Returns the operations and the faults.
    """
    operations: dict[int, PythonOperation] = {}
    faults: list[str] = []
    setting = place_of(SETTING)
    # By name: a module that is named twice is loaded once.
    named_by = {**_installed_modules(), **dict.fromkeys((*_own_modules(), *modules), setting)}
    for name, place in named_by.items():
        module = _imported(name, place, faults)
        if module is None:
            continue
        # A module that was loaded before raises no faults now; its Refused values still have them.
        refused = [value for value in vars(module).values() if isinstance(value, Refused)]
        faults += [fault for each in refused for fault in each.faults]
        found = list(_exported(module))
        if not found and not refused:
            faults.append(_nothing_found(module))
        # By id: an operation imported from another listed module is the same one.
        operations |= {id(each): each for each in found}
    return list(operations.values()), list(dict.fromkeys(faults))


def _own_modules() -> list[str]:
    package = importlib.import_module(OWN_OPERATIONS)
    names = [found.name for found in pkgutil.iter_modules(package.__path__) if not found.name.startswith("_")]
    return [f"{OWN_OPERATIONS}.{name}" for name in names]


def _installed_modules() -> dict[str, str]:
    """Modules that installed distributions offer by an entry point, each with the place that names it."""
    return {
        each.module: f"{each.dist.name if each.dist else 'a distribution'}, entry point {each.name} of {GROUP}"
        for each in sorted(entry_points(group=GROUP))
    }


def _imported(name: str, place: str, faults: list[str]) -> ModuleType | None:
    """Imports a module and collects its faults; None, and a fault, when it can't be imported.

    `place`: what names it.
    """
    if not _MODULE.fullmatch(name):
        faults.append(f"{place}: {name!r} is no name of a module; write it as in an import, such as acme.prices")
        return None
    with faults_collected() as declared:
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the user's code, which may raise anything
            module = None
            if not declared:  # else the error follows from the bad declarations
                faults += _why_not(name, place, error)
    faults += declared
    return module


def _exported(module: ModuleType) -> Iterator[PythonOperation]:
    """The operations that a module declares, and those that it re-exports: by `__all__`, or else any public name."""
    names = getattr(module, "__all__", None)
    for name, value in list(vars(module).items()):
        if not isinstance(value, PythonOperation):
            continue
        is_own = value.function.__module__ == module.__name__
        is_public = name in names if names is not None else not name.startswith("_")
        if is_own or is_public:
            yield value


def _nothing_found(module: ModuleType) -> str:
    place = f"{shown(module.__file__)}:1: " if module.__file__ else ""
    words = f"{place}{module.__name__} declares no operation: put @operation() on a function"
    if module.__name__.startswith(OWN_OPERATIONS):
        return f"{words}, or let the file's name begin with _"
    submodules = [found.name for found in pkgutil.iter_modules(getattr(module, "__path__", []))]
    if submodules:
        words += (
            f", import it into the package, or name the module that has it, such as {module.__name__}.{submodules[0]}"
        )
    return f"{words}; {SETTING} names it"


def _why_not(name: str, named_by: str, error: BaseException) -> list[str]:
    """The faults of a failed import: the line of the user's code, and the exception."""
    if isinstance(error, ConfigurationError):
        return list(error.faults)
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        folders = "the folder of the server, installed packages and PYTHONPATH"
        return [f"{named_by}: there is no module {name}; it is looked for in {folders}"]
    if isinstance(error, SyntaxError) and error.lineno and Path(error.filename or "").is_file():
        return [f"{shown(str(error.filename))}:{error.lineno}: {type(error).__name__}: {error.msg}"]
    frames = [
        (frame.f_globals.get("__name__", ""), f"{shown(frame.f_code.co_filename)}:{line}")
        for frame, line in walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith("<frozen ") and frame.f_code.co_filename != __file__
    ]
    package = name.partition(".")[0]
    own = [place for module, place in frames if module.partition(".")[0] == package]
    # Frames of importlib itself are left out: they stand between, where user code calls import_module.
    others = [place for module, place in frames if module.partition(".")[0] != "importlib"]
    place = own[-1] if own else name
    deepest = f" (raised in {others[-1]})" if others and others[-1] != place else ""
    return [f"{place}: {one_line(error)}{deepest}"]
