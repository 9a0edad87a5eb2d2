"""Names that stand in other modules in other revisions: the first place that a tree has."""

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
