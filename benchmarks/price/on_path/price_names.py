"""Names that are others in other revisions: the first that a tree has."""

import importlib
from typing import Any


def first_of(*places: str) -> Any:
    """What stands at the first of these "module:name" that there is; ImportError when there is none."""
    for place in places:
        module, name = place.split(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"none of {', '.join(places)}")


def one_of(thing: object, *names: str) -> Any:
    """The first of these attributes that a thing has; AttributeError when it has none."""
    for name in names:
        if hasattr(thing, name):
            return getattr(thing, name)
    raise AttributeError(f"{thing!r} has none of {', '.join(names)}")
