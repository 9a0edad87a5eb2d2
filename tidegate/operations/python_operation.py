"""Python operations: the `@operation` decorator makes one of a function with typed parameters."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Literal, cast

from pydantic import TypeAdapter

from tidegate import clock
from tidegate.errors import PermanentError, Retry
from tidegate.operations.batch import Batch
from tidegate.operations.batch_declaration import batch_of
from tidegate.operations.coroutines import run_coroutine
from tidegate.operations.declaration import (
    check_choices,
    check_name,
    check_retry,
    content_types_of,
    coroutine_fault,
    max_body_of,
    queue_of,
    refuse,
    signature_of,
    timeouts_of,
)
from tidegate.operations.operation import JSON, MEGABYTE, Attempt, Body, Member, check_content_type
from tidegate.operations.outcome import BatchOutcome, Failed, Outcome
from tidegate.operations.python_batch import outcomes_of_list
from tidegate.operations.queues import Queue
from tidegate.operations.raised import meaning_of
from tidegate.operations.result import outcome_of_returned
from tidegate.operations.retry import RetryPolicy
from tidegate.operations.typed_input import parse


@dataclass(frozen=True, kw_only=True)
class PythonOperation:
    """An operation that calls a function of (params or raw body[, attempt]). `params` None: a raw body.

    With a `batch` it is a function of a list, and `params` and `result` are of one item. It can be called like that
    function, too.
    """

    name: str
    function: Callable[..., Any]
    params: TypeAdapter[Any] | None
    result: TypeAdapter[Any]
    wants_attempt: bool
    is_async: bool
    content_types: tuple[str, ...]
    description: str
    downstream: str
    queue: str
    timeout: timedelta
    attempt_timeout: timedelta
    retry: RetryPolicy
    max_body: int
    admission: bool = True
    paced_by_calls: bool = False
    batch: Batch | None = None

    def __call__(self, /, *arguments: Any, **named: Any) -> Any:
        """Calls the function as it is written, for unit tests: nothing is checked, and its own value is returned.

        Where it wants an attempt and none is given, it gets one that reports nowhere and whose slots are free.
        """
        given = inspect.signature(self.function).bind_partial(*arguments, **named)
        if self.wants_attempt:
            given.arguments.setdefault([*given.signature.parameters][1], self._stand_in())
        return self.function(*given.args, **given.kwargs)

    @property
    def pass_headers(self) -> tuple[str, ...]:
        """Always empty: a function is given no headers."""
        return ()

    def input_schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of the params; None for a raw body."""
        return self.params.json_schema() if self.params else None

    def check(self, body: Body) -> None:
        """Validates an input; raises UnsupportedBody, MalformedBody or InvalidInput."""
        check_content_type(self, body)
        if self.params:
            parse(self.params, body.content)

    def run(self, body: Body, attempt: Attempt) -> Outcome:
        """Calls the function; a result that can't be written as its declared type is a final failure."""
        attempt.begin()
        given: Any = parse(self.params, body.content) if self.params else body
        try:
            returned = self._returned(given, attempt)
        except (PermanentError, Retry) as error:
            return meaning_of(error, attempt.job_id)
        return outcome_of_returned(returned, self.result, self.name)

    def run_batch(self, members: Callable[[], Sequence[Member]], attempt: Attempt) -> BatchOutcome | Failed:
        """Calls the function once, with the list of all inputs."""
        assert self.params is not None  # noqa: S101 - the declaration is checked: no raw body goes with a batch
        attempt.begin()
        return outcomes_of_list(
            lambda given: self._returned(given, attempt),
            members(),
            params=self.params,
            result=self.result,
            name=self.name,
            batch_id=attempt.job_id,
        )

    def _returned(self, given: Any, attempt: Attempt) -> Any:
        call = partial(self._call, given)
        return run_coroutine(call, attempt) if self.is_async else call(attempt)

    def _call(self, given: Any, attempt: Attempt) -> Any:
        return self.function(given, attempt) if self.wants_attempt else self.function(given)

    def _stand_in(self) -> Attempt:
        ends = clock.monotonic() + self.attempt_timeout.total_seconds()
        return Attempt(
            job_id="no-job",
            number=1,
            report=lambda _: None,
            seconds_left=lambda: ends - clock.monotonic(),
            take_slot=lambda: None,
        )


def operation(
    function: None = None,
    /,
    *,
    name: str | None = None,
    downstream: str | None = None,
    queue: str = Queue.CPU,
    timeout: str | float | timedelta = "10m",
    attempt_timeout: str | float | timedelta | None = None,
    retry: RetryPolicy | None = None,
    content_types: tuple[str, ...] | None = None,
    max_body: int | None = None,
    admission: bool = True,
    paced: Literal["attempts", "calls"] = "attempts",
    batch: int | Batch | None = None,
) -> Callable[[Callable[..., Any]], PythonOperation]:
    """Decorator that makes an operation of a function; a file in tasks/operations/ is found by itself.

    The first argument's annotation decides what callers send: a pydantic model, dataclass or plain type is
    JSON of that shape; `Body` is the raw body. A second argument receives the Attempt. The annotation of
    what it returns is the result's shape; a returned `Body` is passed on as it is. `queue`: "io" for what waits for the
    network, "cpu" for what computes, or one of your own, declared as `[queues.NAME]` in the operations file. Timeouts
    are "2m", a number of seconds or a timedelta.
    `paced="calls"`: the function makes many calls and asks `attempt.slot()` before each; else an attempt is one call.
    `batch=10`, or a Batch: one call is for up to ten jobs. The function takes a list[Params], and returns a list with a
    result for each, in their order.
    Raises ConfigurationError, with file and line, for whatever can't be one.
    """

    def make(function: Callable[..., Any]) -> PythonOperation:
        faults: list[str] = []
        own_name = getattr(function, "__name__", "") if name is None else name
        signature = signature_of(function, own_name, faults, is_batch=batch is not None)
        if signature is not None or name is not None:
            check_name("name", own_name, faults)
        if downstream is not None:
            check_name("downstream", downstream, faults)
        batched = batch_of(batch, faults)
        whole, each = timeouts_of(timeout, attempt_timeout, faults)
        if retry is not None:
            check_retry(retry, faults)
        check_choices(admission, paced, signature, faults, is_batch=batch is not None)
        takes_raw = signature is None or signature.params is None
        types = (() if takes_raw else (JSON,)) if content_types is None else content_types_of(content_types, faults)
        most = (20 * MEGABYTE if takes_raw else MEGABYTE) if max_body is None else max_body_of(max_body, faults)
        if batched and max_body is None:
            most = min(most, batched.max_bytes)
        elif batched and most > batched.max_bytes:
            faults.append(f"max_body: such an input would fit into no call: max_bytes of batch is {batched.max_bytes}")
        kind = queue_of(queue, faults)
        if reason := coroutine_fault(function, queue):
            faults.append(reason)
        if signature is None or faults:
            # refuse() returns only while faults are collected, and then nothing runs.
            return cast("PythonOperation", refuse(function, own_name, faults))
        return PythonOperation(
            name=own_name,
            function=function,
            params=signature.params,
            result=signature.result,
            wants_attempt=signature.wants_attempt,
            is_async=inspect.iscoroutinefunction(function),
            content_types=types,
            description=inspect.cleandoc(function.__doc__ or ""),
            downstream=downstream or own_name,
            queue=kind,
            timeout=whole,
            attempt_timeout=each,
            retry=retry or RetryPolicy(),
            admission=admission,
            paced_by_calls=paced == "calls",
            batch=batched,
            max_body=most,
        )

    if function is not None:
        how = ["write @operation(), with parentheses"]  # type: ignore[unreachable] # for those who check no types
        return cast("Any", refuse(function, getattr(function, "__name__", ""), how))
    return make
