"""The operation that is a typed Python function, and the decorator that makes one."""

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from tidegate.durations import parse_duration
from tidegate.errors import ConfigurationError, PermanentError, UnsupportedBody
from tidegate.operations import CONTENT_TYPE_LENGTH, MEGABYTE, Attempt, Body, Queue
from tidegate.outcomes import ErrorCode, Failed, Outcome, Succeeded
from tidegate.retry import RetryPolicy
from tidegate.typed_input import is_json, parse

JSON = "application/json"
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, kw_only=True)
class PythonOperation:
    """A function of (params or raw body[, attempt]). `params` None: the function takes its body raw."""

    name: str
    function: Callable[..., Any]
    params: TypeAdapter[Any] | None
    result: TypeAdapter[Any]
    wants_attempt: bool
    content_types: tuple[str, ...]
    description: str
    downstream: str
    queue: Queue
    timeout: timedelta
    attempt_timeout: timedelta
    retry: RetryPolicy
    max_body: int
    admission: bool = True
    paced_by_calls: bool = False

    def input_schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of the params; None for a raw body."""
        return self.params.json_schema() if self.params else None

    def check(self, body: Body) -> None:
        """Raises UnsupportedBody, MalformedBody or InvalidInput."""
        media_type = body.content_type.partition(";")[0].strip().lower()
        if self.content_types and media_type not in self.content_types:
            raise UnsupportedBody(
                f"{self.name} takes {' or '.join(self.content_types)}, not {media_type or 'an unnamed type'}"
            )
        if self.params:
            parse(self.params, body.content)

    def run(self, body: Body, attempt: Attempt) -> Outcome:
        """Calls the function; a result that can't be written as its declared type is a final failure."""
        given: Any = parse(self.params, body.content) if self.params else body
        try:
            returned = self.function(given, attempt) if self.wants_attempt else self.function(given)
        except PermanentError as error:
            return Failed(code=ErrorCode.OPERATION_ERROR, message=str(error) or type(error).__name__)
        if isinstance(returned, Body):
            if not _can_be_sent(returned):
                reason = f"{self.name} returned a Body that can't be sent: it takes bytes and one line as their type"
                return Failed(code=ErrorCode.OPERATION_ERROR, message=reason)
            return succeeded(returned.content, returned.content_type)
        try:
            content = self.result.dump_json(self.result.validate_python(returned))
        except (ValidationError, PydanticSerializationError) as error:
            reason = f"{self.name} returned {type(returned).__name__}, which its declared result can't hold: {error}"
            return Failed(code=ErrorCode.OPERATION_ERROR, message=reason[:1000])
        return succeeded(content, JSON)


def succeeded(content: bytes, content_type: str) -> Succeeded:
    """A result, marked as JSON when it says so and really is."""
    media_type = content_type.partition(";")[0].strip().lower()
    return Succeeded(content=content, content_type=content_type, is_json=_says_json(media_type) and is_json(content))


def operation(
    *,
    name: str | None = None,
    downstream: str | None = None,
    queue: Queue = Queue.CPU,
    timeout: str = "10m",
    attempt_timeout: str | None = None,
    retry: RetryPolicy | None = None,
    content_types: tuple[str, ...] | None = None,
    max_body: int | None = None,
    admission: bool = True,
    paced: Literal["attempts", "calls"] = "attempts",
) -> Callable[[Callable[..., Any]], PythonOperation]:
    """Makes an operation of a function; put the file into tasks/operations/ and it is there.

    The first argument's annotation decides what callers send: a pydantic model, dataclass or plain type is
    JSON of that shape; `Body` is the raw body. A second argument receives the Attempt. The annotation of
    what it returns is the result's shape; a returned `Body` is passed on as it is. Durations as in "2m".
    `paced="calls"`: the function makes many calls and asks `attempt.slot()` before each; else an attempt is one call.
    Raises ConfigurationError for a function that can't be one.
    """

    def make(function: Callable[..., Any]) -> PythonOperation:
        own_name = name or function.__name__
        arguments = list(inspect.signature(function).parameters.values())
        hints = _hints_of(function)
        by_position = all(argument.kind in _BY_POSITION for argument in arguments)
        if len(arguments) not in (1, 2) or not by_position or arguments[0].name not in hints:
            raise ConfigurationError(
                f"operation {own_name}: write it as def {own_name}(params: Params, attempt: Attempt) -> Result"
            )
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_-]{0,62}", own_name):
            raise ConfigurationError(f"operation {own_name!r}: a name is made of letters, digits, _ and -, at most 63")
        try:
            whole, each = parse_duration(timeout), parse_duration(attempt_timeout or timeout)
        except ValueError as error:
            raise ConfigurationError(f"operation {own_name}: {error}") from None
        takes_raw = hints[arguments[0].name] is Body
        return PythonOperation(
            name=own_name,
            function=function,
            params=None if takes_raw else TypeAdapter(hints[arguments[0].name]),
            result=TypeAdapter(hints.get("return", Any) if hints.get("return") is not Body else Any),
            wants_attempt=len(arguments) == 2,
            content_types=content_types if content_types is not None else (() if takes_raw else (JSON,)),
            description=inspect.cleandoc(function.__doc__ or ""),
            downstream=downstream or own_name,
            queue=queue,
            timeout=whole,
            attempt_timeout=each,
            retry=retry or RetryPolicy(),
            admission=admission,
            paced_by_calls=paced == "calls",
            max_body=max_body or (20 * MEGABYTE if takes_raw else MEGABYTE),
        )

    return make


def _hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        name = function.__name__
        raise ConfigurationError(
            f"operation {name}: write it as def {name}(params: Params, attempt: Attempt) -> Result; {error}"
        ) from None


def _can_be_sent(body: Body) -> bool:
    # As the table and HTTP will have it, whatever the annotations say.
    content_type: object = body.content_type
    return (
        isinstance(body.content, bytes)
        and isinstance(content_type, str)
        and len(content_type) <= CONTENT_TYPE_LENGTH
        and content_type.isascii()
        and content_type.isprintable()
    )


def _says_json(media_type: str) -> bool:
    return media_type == JSON or media_type.endswith("+json")
