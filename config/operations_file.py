"""Reads the operations file (TOML): HTTP operations and what each downstream can take. Messages name file and line."""

import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from config.settings import value_of
from config.toml_lines import as_fault, line_of
from tidegate.durations import Duration
from tidegate.errors import ConfigurationError
from tidegate.http_operation import HttpOperation
from tidegate.operations import MEGABYTE, Limits
from tidegate.pacing import Rate
from tidegate.retry import RetryPolicy

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
# They frame the message, or carry what Tidegate itself promises.
_RESERVED_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "content-type", "idempotency-key"}
)


def _check_rate(rate: str) -> str:
    Rate.parse(rate)
    return rate


def _check_url(url: str) -> str:
    if not _REFERENCE.search(url) and not is_url(url):
        raise ValueError("write an absolute http:// or https:// URL")
    return url


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _RESERVED_HEADERS:
            raise ValueError(f"{name!r} can't be set here")
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise ValueError(f"the value of {name!r} must be one line of ASCII, without spaces around it")
    return headers


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Retry(_Table):
    attempts: int = Field(5, ge=1, le=100)
    delay: Duration = timedelta(seconds=1)
    max_delay: Duration = timedelta(seconds=30)
    on: frozenset[Annotated[int, Field(ge=100, le=599)]] = RetryPolicy.on


class _Downstream(_Table):
    rate: Annotated[tuple[Annotated[str, AfterValidator(_check_rate)], ...], BeforeValidator(_as_list)] = ()
    burst: int = Field(1, ge=1, le=100_000)
    concurrency: int | None = Field(None, ge=1, le=100_000)
    breaker: int = Field(10, ge=0, le=1_000_000)


class _Operation(_Table):
    url: Annotated[str, AfterValidator(_check_url)]
    downstream: Name | None = None
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    headers: Annotated[dict[str, str], AfterValidator(_check_headers)] = {}
    description: str = ""
    timeout: Duration = timedelta(minutes=2)
    attempt_timeout: Duration = timedelta(seconds=10)
    retry: _Retry = _Retry()
    max_body: int = Field(20 * MEGABYTE, ge=0)
    admission: bool = True


class _File(_Table):
    downstreams: dict[Name, _Downstream] = {}
    operations: dict[Name, _Operation] = {}


def read_operations_file(
    path: Path, *, max_result: int, expand: Callable[[str], str] = str
) -> tuple[list[HttpOperation], list[Limits]]:
    """The file's operations and downstreams. `expand` puts secrets in, and only a worker's does.

    Raises ConfigurationError with file and line for whatever can't be used.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"TIDEGATE_OPERATIONS_FILE: {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: it is not UTF-8: {error}") from None
    try:
        file = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}:{as_fault(error, text)}") from None
    except ValidationError as error:
        faults = [
            f"{path}:{line_of(text, fault['loc'])}: {'.'.join(map(str, fault['loc']))}: "
            f"{fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        ]
        raise ConfigurationError("\n".join(faults)) from None
    # A slip of the pen must not mean that there is no limit.
    undeclared = [
        f"{path}:{line_of(text, ('operations', name, 'downstream'))}: operations.{name}.downstream: "
        f"{table.downstream!r} is declared nowhere; write [downstreams.{table.downstream}]"
        for name, table in file.operations.items()
        if table.downstream not in {None, name, *file.downstreams}
    ]
    if undeclared:
        raise ConfigurationError("\n".join(undeclared))
    operations = [
        HttpOperation(
            name=name,
            url=table.url,
            method=table.method,
            headers=table.headers,
            description=table.description,
            downstream=table.downstream or name,
            timeout=table.timeout,
            attempt_timeout=table.attempt_timeout,
            retry=RetryPolicy(**dict(table.retry)),
            max_body=table.max_body,
            max_result=max_result,
            admission=table.admission,
            expand=expand,
        )
        for name, table in file.operations.items()
    ]
    limits = [
        Limits(
            name=name, rates=table.rate, burst=table.burst, concurrency=table.concurrency, breaker_after=table.breaker
        )
        for name, table in file.downstreams.items()
    ]
    return operations, limits


def references(operation: HttpOperation) -> list[str]:
    """The names of the environment that its URL and headers need: those without a default."""
    templates = (operation.url, *operation.headers.values())
    return [name for text in templates for name, default in _REFERENCE.findall(text) if f"${{{name}:-" not in text]


def is_url(text: str) -> bool:
    """Whether it is an absolute URL of HTTP that a request can be made with."""
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and " " not in text
    except ValueError:
        return False


def expander(environment: Mapping[str, str]) -> Callable[[str], str]:
    """Puts the environment into a template: `${NAME}`, or `${NAME:-default}`. NAME_FILE may name a file with the value.

    What it returns raises ConfigurationError for a name without value or default; it never tells a value.
    """

    def replacement(reference: re.Match[str]) -> str:
        # An empty value counts as none where there is a default, as in a shell and in compose.
        value = value_of(reference[1], environment)
        if reference[2] is not None:
            value = value or reference[2]
        if value is None:
            raise ConfigurationError(
                f"${{{reference[1]}}} is used in the operations file and not set in the environment"
            )
        return value

    return lambda template: _REFERENCE.sub(replacement, template)
