"""Checks the declaration of a Python operation, `@operation(...)`: its arguments and the function's signature.

Done when the module is imported: a mistake would otherwise fail each job, or wait until somebody asks for the schema.
"""

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tidegate.errors import ConfigurationError
from tidegate.operations.batch_declaration import items_of
from tidegate.operations.operation import Attempt, Body
from tidegate.operations.queues import BUILT_IN, Pool, Queue, queue_fault
from tidegate.operations.retry import RetryPolicy
from tidegate.timeformat import LONGEST, read_duration

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,62}")
NAME_RULE = "a name is made of letters, digits, _ and -, at most 63, and does not begin with a digit or -"
_SHAPE = "(params: Params, attempt: Attempt) -> Result"
PACED = ("attempts", "calls")
_CONTENT_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a function's annotations say. `params` None: it takes a raw body."""

    params: TypeAdapter[Any] | None
    result: TypeAdapter[Any]
    wants_attempt: bool


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Takes the place of an operation whose declaration is bad, while faults are collected."""

    faults: tuple[str, ...]


@contextmanager
def faults_collected() -> Iterator[list[str]]:
    """Within it bad declarations add their faults to this list and raise nothing, so that all are shown at once."""
    found: list[str] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def refuse(function: object, name: object, faults: list[str]) -> Refused:
    """Raises ConfigurationError with file and line before each fault; while faults are collected, adds them there."""
    shown_name = name if isinstance(name, str) and NAME.fullmatch(name) else repr(name)
    lines = [f"{place_of(function)}: operation {shown_name}: {fault}" for fault in faults]
    collected = _collected.get()
    if collected is None:
        raise ConfigurationError(*lines)
    collected += lines
    return Refused(faults=tuple(lines))


def place_of(function: object) -> str:
    """The file and line of a declaration: `acme/prices.py:12`. Of what is no function: the line that declares it."""
    function = inspect.unwrap(function) if callable(function) else function
    code = getattr(function, "__code__", None)
    if code is not None:
        return f"{shown(code.co_filename)}:{code.co_firstlineno}"
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("tidegate."):
        frame = frame.f_back
    return f"{shown(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else "?"


def shown(path: str | Path) -> str:
    """A path relative to the working directory, if it lies in it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def signature_of(
    function: Callable[..., Any], name: str, faults: list[str], *, is_batch: bool = False
) -> Signature | None:
    """Reads a function's parameters and annotations; None, and faults, when it can't be an operation.

    `is_batch`: it takes a list of inputs and returns one of results; `params` and `result` are those of one job.
    """
    if reason := _is_no_plain_function(function):
        faults.append(reason)
        return None
    shape = "(params: list[Params], attempt: Attempt) -> list[Result]" if is_batch else _SHAPE
    how = f"write it as def {name}{shape}"
    arguments = list(inspect.signature(function).parameters.values())
    if len(arguments) not in (1, 2) or any(argument.kind not in _BY_POSITION for argument in arguments):
        faults.append(f"{how}: one input and, if it is wanted, the attempt")
        return None
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # noqa: BLE001 - annotations are code of the user's, which may raise anything
        faults.append(f"{how}; its annotations can't be read: {one_line(error)}")
        return None
    first, *second = [argument.name for argument in arguments]
    if first not in hints:
        faults.append(f"{how}: {first} has no annotation, which says what callers send")
    elif hints[first] is Attempt:
        faults.append(f"{how}: the first argument is the input")
    if second and not _takes_attempt(hints.get(second[0])):
        faults.append(f"{how}: the second argument, {second[0]}, is given the attempt and is annotated as Attempt")
    given, returned = hints.get(first), hints.get("return", Any)
    if is_batch and first in hints:
        given, returned = items_of(given, returned, first, faults)
    if faults:
        return None
    takes_raw = given is Body
    params = None if takes_raw else _adapter(given, f"the type of {first}", faults, needs_schema=True)
    result = _adapter(Any if returned is Body else returned, "the type of its result", faults)
    if result is None or (params is None and not takes_raw):
        return None
    return Signature(params=params, result=result, wants_attempt=bool(second))


def queue_of(value: object, faults: list[str]) -> str:
    """Checks a queue's name. Whether one that is not built in is declared, the operations file tells."""
    if reason := queue_fault(value):
        faults.append(f"queue: {reason}{_meant(value, Queue)}")
        return Queue.CPU
    return str(value)


def timeouts_of(whole: object, each: object, faults: list[str]) -> tuple[timedelta, timedelta]:
    """Checks the timeouts of the job and of one attempt (None: the same); each a text "2m", timedelta or seconds."""
    read: list[timedelta] = []
    for name, value in (("timeout", whole), ("attempt_timeout", whole if each is None else each)):
        try:
            read.append(read_duration(value))
        except ValueError as error:
            if name == "timeout" or each is not None:
                faults.append(f"{name}: {error}")
    if len(read) < 2:
        return LONGEST, LONGEST
    if read[1] > read[0]:
        faults.append(f"attempt_timeout: {each!r} is longer than the timeout of the whole, {whole!r}")
    return read[0], read[1]


def check_name(what: str, value: object, faults: list[str]) -> None:
    """Checks the name of an operation or downstream: it stands in URLs, files and metrics."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        faults.append(f"{what}: {value!r} can't be one: {NAME_RULE}")


def check_retry(retry: object, faults: list[str]) -> None:
    """Checks a RetryPolicy and the types and ranges of its parts."""
    if not isinstance(retry, RetryPolicy):
        faults.append(f"retry: write RetryPolicy(attempts=3), not {retry!r}")
        return
    if not _is_whole(retry.attempts) or not 1 <= retry.attempts <= 100:
        faults.append(f"retry: attempts is a number from 1 to 100, not {retry.attempts!r}")
    delays = {"delay": retry.delay, "max_delay": retry.max_delay}
    bad = [name for name, value in delays.items() if not isinstance(value, timedelta) or value < timedelta(0)]
    faults += [f"retry: {name} is a timedelta, not less than nothing, such as timedelta(seconds=1)" for name in bad]
    if not bad and retry.delay > retry.max_delay:
        faults.append(f"retry: its delay ({retry.delay}) is longer than its max_delay ({retry.max_delay})")
    if not isinstance(retry.on, set | frozenset) or not all(_is_whole(s) and 100 <= s <= 599 for s in retry.on):
        faults.append("retry: on is a frozenset of statuses from 100 to 599")


def content_types_of(value: object, faults: list[str]) -> tuple[str, ...]:
    """Checks content types: media types in lower case, without parameters."""
    if not isinstance(value, list | tuple) or not all(
        isinstance(each, str) and _CONTENT_TYPE.fullmatch(each) for each in value
    ):
        how = 'write a tuple of types in lower case and without parameters, such as ("text/csv",)'
        faults.append(f"content_types: {how}, not {value!r}")
        return ()
    return tuple(value)


def coroutine_fault(function: object, queue: object, queues: Mapping[str, Pool] = BUILT_IN) -> str | None:
    """Why a function can't run on this queue: a coroutine function is for threads. None: it can, as far as is known."""
    if inspect.iscoroutinefunction(function) and isinstance(queue, str) and queues.get(queue) is Pool.PROCESSES:
        how = f"a process of the {queue} queue runs one function at a time, so write def for what computes"
        return f'async def is for what waits, on the event loop of an io worker: write queue="io"; {how}'
    return None


def max_body_of(value: object, faults: list[str]) -> int:
    """Checks the largest input, in bytes."""
    if not _is_whole(value) or value < 0:
        faults.append(f"max_body: a number of bytes, not {value!r}")
        return 0
    return value


def check_choices(
    admission: object, paced: object, signature: Signature | None, faults: list[str], *, is_batch: bool = False
) -> None:
    """Checks `admission` (a boolean) and `paced` ("attempts" or "calls")."""
    if not isinstance(admission, bool):
        faults.append(f"admission: True or False, not {admission!r}")
    if paced not in PACED:
        faults.append(f"paced: {_listed(PACED)}, not {paced!r}{_meant(paced, PACED)}")
    elif paced == "calls" and is_batch:
        faults.append('paced: with a batch the whole call takes one slot, so "calls" does not go with it')
    elif paced == "calls" and signature is not None and not signature.wants_attempt:
        faults.append('paced: with "calls" each call asks attempt.slot(), so the function takes the attempt, too')


def one_line(error: BaseException) -> str:
    """An exception's type and message on one line, cut at 300 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _is_no_plain_function(function: object) -> str | None:
    if inspect.isclass(function):
        return "a class can't be one; put @operation() on a function"
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        return f"a {type(function).__name__} can't be one; put @operation() on a function"
    if function.__name__ == "<lambda>":
        return "a lambda can't be one: its input has no type; write a def"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return (
            "it yields, and would return a generator; return the result, and tell how far it is by attempt.progress()"
        )
    return None


def _takes_attempt(hint: object) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        return _takes_attempt(typing.get_args(hint)[0])
    return hint in (Attempt, Any) or any(_takes_attempt(each) for each in typing.get_args(hint))


def _adapter(hint: Any, what: str, faults: list[str], *, needs_schema: bool = False) -> TypeAdapter[Any] | None:
    """The pydantic adapter of a type; None, and a fault, when pydantic can't read it or make its schema."""
    try:
        adapter = TypeAdapter(hint)
        if needs_schema:
            adapter.json_schema()  # GET /v1/operations shows it
    except Exception as error:  # noqa: BLE001 - types bring code of their own, which may raise anything
        faults.append(
            f"{what} can't be read as JSON; write a pydantic model, dataclass or plain type; {one_line(error)}"
        )
        return None
    return adapter


def _is_whole(value: object) -> typing.TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _listed(words: typing.Iterable[str]) -> str:
    return " and ".join(f'"{word}"' for word in words)


def _meant(value: object, words: typing.Iterable[str]) -> str:
    close = get_close_matches(value, [str(word) for word in words], n=1) if isinstance(value, str) else []
    return f" (did you mean {close[0]!r}?)" if close else ""
