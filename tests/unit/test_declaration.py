"""What `@operation(...)` takes, and how each slip in it is told: with file and line, when it is declared."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from tidegate.errors import ConfigurationError
from tidegate.operations.declaration import faults_collected
from tidegate.operations.operation import Attempt, Body
from tidegate.operations.python_operation import PythonOperation, operation
from tidegate.operations.queues import Queue
from tidegate.operations.retry import RetryPolicy

HERE = Path(__file__).relative_to(Path.cwd())


class Params(BaseModel):
    size: int


def work(params: Params) -> int:
    return params.size


def work_by_calls(params: Params, attempt: Attempt) -> int:
    return params.size


def line_of(function: Callable[..., Any]) -> int:
    return function.__code__.co_firstlineno


def refusal_of(function: Any, **options: Any) -> str:
    """The one line that this declaration is refused with."""
    with pytest.raises(ConfigurationError) as error:
        operation(**options)(function)
    (line,) = error.value.faults
    return line


@pytest.mark.parametrize("queue", ["io", "cpu", Queue.IO, Queue.CPU, "gpu", "gpu-2"])
def test_a_queue_is_named_or_given(queue: str) -> None:
    made = operation(queue=queue)(work)

    assert made.queue == str(queue)


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [("2m", 120), ("90", 90), (90, 90), (0.5, 0.5), (timedelta(minutes=2), 120)],
)
def test_a_timeout_is_a_text_a_number_of_seconds_or_a_timedelta(timeout: Any, seconds: float) -> None:
    made = operation(timeout=timeout)(work)

    assert made.timeout == made.attempt_timeout == timedelta(seconds=seconds)
    assert operation(timeout="1h", attempt_timeout=timeout)(work).attempt_timeout == timedelta(seconds=seconds)


def test_what_is_left_out_has_its_default_and_what_is_zero_is_kept() -> None:
    made = operation()(work)
    assert (made.timeout, made.queue, made.max_body) == (timedelta(minutes=10), Queue.CPU, 1024 * 1024)
    assert operation(max_body=0)(work).max_body == 0
    assert operation(content_types=())(work).content_types == ()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"queue": "CPU"}, "queue: 'CPU' can't be a queue: the name of a queue is made of small letters"),
        ({"queue": "cpu_"}, "did you mean 'cpu'?"),
        ({"queue": "a-queue-whose-name-is-too-long"}, "digits and -, at most 20, and begins with a letter"),
        ({"queue": "webhooks"}, "queue: 'webhooks' is the queue of webhooks, whose workers run no operation"),
        ({"queue": "unacked"}, "queue: 'unacked' is a name that Celery uses in the broker; choose another one"),
        ({"queue": None}, "queue: None can't be a queue"),
        ({"queue": True}, "queue: True can't be a queue"),
        ({"timeout": "soon"}, "timeout: 'soon' is not a duration"),
        ({"timeout": 0}, "timeout: '0' is out of range"),
        ({"timeout": -1}, "timeout: '-1' is not a duration"),
        ({"timeout": timedelta(0)}, "timeout: 0:00:00 is out of range"),
        ({"timeout": timedelta(seconds=-5)}, "is out of range"),
        ({"timeout": True}, "timeout: True is not a duration"),
        ({"timeout": float("nan")}, "timeout: 'nan' is not a duration"),
        ({"timeout": ["2m"]}, "timeout: ['2m'] is not a duration"),
        ({"timeout": None}, "timeout: None is not a duration"),
        ({"attempt_timeout": "0s"}, "attempt_timeout: '0s' is out of range"),
        ({"attempt_timeout": ""}, "attempt_timeout: '' is not a duration"),
        ({"attempt_timeout": False}, "attempt_timeout: False is not a duration"),
        ({"timeout": "1m", "attempt_timeout": "2m"}, "attempt_timeout: '2m' is longer than the timeout"),
        ({"name": "Not/A Name"}, "name: 'Not/A Name' can't be one: a name is made of letters"),
        ({"name": ""}, "name: '' can't be one"),
        ({"name": "a" * 64}, "can't be one"),
        ({"name": "größe"}, "can't be one"),
        ({"name": "a\n"}, "can't be one"),
        ({"name": 5}, "name: 5 can't be one"),
        ({"downstream": "a b"}, "downstream: 'a b' can't be one"),
        ({"downstream": ""}, "downstream: '' can't be one"),
        ({"downstream": 5}, "downstream: 5 can't be one"),
        ({"retry": 3}, "retry: write RetryPolicy(attempts=3), not 3"),
        ({"retry": RetryPolicy(attempts=0)}, "retry: attempts is a number from 1 to 100, not 0"),
        ({"retry": RetryPolicy(attempts=True)}, "retry: attempts is a number from 1 to 100, not True"),
        ({"retry": RetryPolicy(attempts=2.5)}, "retry: attempts"),  # type: ignore[arg-type] # refused
        ({"retry": RetryPolicy(delay="1s")}, "retry: delay is a timedelta"),  # type: ignore[arg-type] # refused
        ({"retry": RetryPolicy(delay=timedelta(-1))}, "retry: delay is a timedelta, not less than nothing"),
        ({"retry": RetryPolicy(max_delay=5)}, "retry: max_delay is a timedelta"),  # type: ignore[arg-type] # refused
        ({"retry": RetryPolicy(delay=timedelta(minutes=1))}, "is longer than its max_delay"),
        ({"retry": RetryPolicy(on=frozenset({99}))}, "retry: on is a frozenset of statuses"),
        ({"retry": RetryPolicy(on=[500])}, "retry: on is a frozenset of statuses"),  # type: ignore[arg-type] # refused
        ({"content_types": "text/csv"}, "content_types: write a tuple"),
        ({"content_types": ("text/csv; charset=utf-8",)}, "without parameters"),
        ({"content_types": ("Text/CSV",)}, "in lower case"),
        ({"content_types": ("csv",)}, "content_types: write a tuple"),
        ({"content_types": (5,)}, "content_types: write a tuple"),
        ({"max_body": -1}, "max_body: a number of bytes, not -1"),
        ({"max_body": True}, "max_body: a number of bytes, not True"),
        ({"max_body": "1MB"}, "max_body: a number of bytes, not '1MB'"),
        ({"admission": "no"}, "admission: True or False, not 'no'"),
        ({"admission": 0}, "admission: True or False, not 0"),
        ({"paced": "call"}, "paced: \"attempts\" and \"calls\", not 'call' (did you mean 'calls'?)"),
        ({"paced": "calls"}, "the function takes the attempt, too"),
    ],
)
def test_each_bad_argument_is_told_with_file_and_line_of_the_function(options: dict[str, Any], told: str) -> None:
    line = refusal_of(work, **options)

    name = repr(options["name"]) if "name" in options else "work"
    assert line.startswith(f"{HERE}:{line_of(work)}: operation {name}: ")
    assert told in line
    assert "\n" not in line


def test_every_bad_argument_is_told_at_once() -> None:
    bad: Any = "GPU"
    with pytest.raises(ConfigurationError) as error:
        operation(queue=bad, timeout="soon", attempt_timeout="later", max_body=-1)(work)

    told = [line.partition("operation work: ")[2].partition(":")[0] for line in error.value.faults]
    assert told == ["timeout", "attempt_timeout", "max_body", "queue"]


def no_argument() -> None: ...
def three(a: int, b: int, c: int) -> None: ...
def untyped(a) -> None: ...  # type: ignore[no-untyped-def] # refused
def untyped_attempt(a: int, attempt) -> None: ...  # type: ignore[no-untyped-def] # refused
def no_attempt(a: int, b: int) -> None: ...
def attempt_first(attempt: Attempt, a: int) -> None: ...
def keyword_only(a: int, *, attempt: Attempt) -> None: ...
def starred(*a: int) -> None: ...
def mapped(**a: int) -> None: ...
def unresolved(a: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821 - refused
def broken_text(a: "int |") -> None: ...  # type: ignore[valid-type] # noqa: F722 - refused
def no_such_attribute(a: "timedelta.Hours") -> None: ...  # type: ignore[name-defined] # refused


@pytest.mark.parametrize(
    "function",
    [
        no_argument,
        three,
        untyped,
        untyped_attempt,
        no_attempt,
        attempt_first,
        keyword_only,
        starred,
        mapped,
        unresolved,
        broken_text,
        no_such_attribute,
    ],
)
def test_a_function_of_another_shape_is_told_how_to_write_it(function: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError) as error:
        operation()(function)

    start = f"{HERE}:{line_of(function)}: operation {function.__name__}: write it as def {function.__name__}("
    assert all(line.startswith(start) and "\n" not in line for line in error.value.faults)


async def is_async(params: Params) -> int:
    await asyncio.sleep(0)
    return params.size


async def yields_async(params: Params) -> AsyncIterator[int]:
    yield params.size


def yields(params: Params) -> Iterator[int]:
    yield params.size


class NotAFunction:
    def __init__(self, params: Params) -> None: ...

    def __call__(self, params: Params) -> int:
        return params.size


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (is_async, 'async def is for what waits, on the event loop of an io worker: write queue="io"'),
        (yields_async, "it yields"),
        (yields, "it yields"),
        (lambda params: params, "a lambda can't be one"),
        (NotAFunction, "a class can't be one"),
        (NotAFunction(Params(size=1)), "a NotAFunction can't be one"),
        (functools.partial(work), "a partial can't be one"),
        (staticmethod(work), "a staticmethod can't be one"),
        (5, "a int can't be one"),
        (len, "a builtin_function_or_method can't be one"),
    ],
)
def test_what_is_no_plain_function_is_refused_by_name(made: object, told: str) -> None:
    line = refusal_of(made)

    assert line.startswith(f"{HERE}:")
    assert told in line


@pytest.mark.parametrize("queue", ["cpu", Queue.CPU])
def test_a_coroutine_function_is_for_the_io_queue_alone(queue: Any) -> None:
    assert operation(queue="io")(is_async).is_async
    assert operation(queue=Queue.IO)(is_async).is_async
    assert not operation(queue="io")(work).is_async
    with pytest.raises(ConfigurationError, match="a process of the cpu queue runs one function at a time"):
        operation(queue=queue)(is_async)


def takes_callable(params: Callable[[], int]) -> int:
    return 0


def takes_anything_of_a_class(params: NotAFunction) -> int:
    return 0


def returns_a_class(params: Params) -> NotAFunction:
    return NotAFunction(params)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (takes_callable, "the type of params can't be read as JSON"),
        (takes_anything_of_a_class, "the type of params can't be read as JSON"),
        (returns_a_class, "the type of its result can't be read as JSON"),
    ],
)
def test_a_type_that_has_no_schema_is_refused_when_it_is_declared(function: Callable[..., Any], told: str) -> None:
    line = refusal_of(function)

    assert told in line
    assert "\n" not in line


def test_the_parentheses_are_asked_for() -> None:
    with pytest.raises(ConfigurationError, match=r":\d+: operation work: write @operation\(\), with parentheses"):
        operation(work)  # type: ignore[arg-type] # refused


def test_an_attempt_may_be_annotated_in_any_way_that_says_so() -> None:
    def plain(body: Body, attempt: Attempt) -> Body:
        return body

    def optional(body: Body, attempt: Attempt | None = None) -> Body:
        return body

    def annotated(body: Body, attempt: Annotated[Attempt, "ours"]) -> Body:
        return body

    for function in (plain, optional, annotated):
        made = operation()(function)
        assert (made.wants_attempt, made.params) == (True, None)


def test_a_decorated_function_is_told_where_it_is_written() -> None:
    @functools.wraps(untyped)
    def wrapper(*arguments: Any) -> None:
        untyped(*arguments)

    assert refusal_of(wrapper).startswith(f"{HERE}:{line_of(untyped)}: operation untyped: ")


def test_where_faults_are_collected_nothing_is_raised_and_all_are_told() -> None:
    with faults_collected() as faults:
        operation(queue="GPU")(work)
        operation()(is_async)
        assert isinstance(operation()(work), PythonOperation)

    assert [line.partition(": ")[0] for line in faults] == [f"{HERE}:{line_of(work)}", f"{HERE}:{line_of(is_async)}"]
    with pytest.raises(ConfigurationError):
        operation(queue="GPU")(work)
