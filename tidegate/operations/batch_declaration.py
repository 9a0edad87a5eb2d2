"""Checks what `@operation(batch=…)` declares: the numbers, and that the function takes a list and returns one."""

import types
import typing
from datetime import timedelta
from typing import Any

from tidegate.operations.batch import LARGEST, LONGEST_LINGER, MOST_JOBS, Batch
from tidegate.operations.operation import Body


def batch_of(value: object, faults: list[str]) -> Batch | None:
    """Checks how many jobs a call may do: a number, or a Batch. None: one."""
    if value is None:
        return None
    batch = value if isinstance(value, Batch) else Batch(max=value) if _is_whole(value) else None
    if batch is None:
        faults.append(f"batch: write the most jobs of one call, batch=10, or Batch(max=10), not {value!r}")
        return None
    if not _is_whole(batch.max) or not 2 <= batch.max <= MOST_JOBS:
        faults.append(f"batch: a number of jobs from 2 to {MOST_JOBS}, not {batch.max!r}; left out: one")
    linger: object = batch.linger
    if not isinstance(linger, timedelta) or not timedelta(0) <= linger <= LONGEST_LINGER:
        longest = f"timedelta(seconds={LONGEST_LINGER.seconds})"
        faults.append(f"batch: linger is a timedelta of at most {longest}, not {linger!r}")
    if not _is_whole(batch.max_bytes) or not 1 <= batch.max_bytes <= LARGEST:
        faults.append(f"batch: max_bytes is a number of bytes, at most {LARGEST}, not {batch.max_bytes!r}")
    return batch


def items_of(given: Any, returned: Any, name: str, faults: list[str]) -> tuple[Any, Any]:
    """The types of one input and of one result of a function of a list; `name`: what it calls the list."""
    item, result = _item(given), _item(returned)
    if item is None:
        faults.append(f"batch: its function takes the inputs of several jobs: annotate {name} as list[Params]")
    elif item is Body:
        faults.append("batch: a raw Body does not go with it; take list[Params], whose items are JSON")
    if result is None:
        faults.append("batch: its function returns a result for each input, in order: annotate it as -> list[Result]")
    return item, _without_exceptions(result)


def _item(hint: Any) -> Any:
    """What a list has in it; None: the annotation is no list of something."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is not list or not arguments:
        return None
    return types.NoneType if arguments[0] is None else arguments[0]


def _without_exceptions(hint: Any) -> Any:
    """A result may be an exception in place of one, list[Vector | PermanentError]: that is no part of its shape."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    kept = [each for each in typing.get_args(hint) if not (isinstance(each, type) and issubclass(each, Exception))]
    return typing.Union[tuple(kept)] if kept else Any  # noqa: UP007 - made of values


def _is_whole(value: object) -> typing.TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
