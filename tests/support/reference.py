"""The tables in docs/ that are made from the code: every setting, and every key of the operations file.

Each stands in its page between two comments; what is around them is written by hand.
"""

import json
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from config.batch_tables import BatchTable
from config.operations_tables import DownstreamTable, OAuthTable, OperationTable, QueueTable, RetryTable
from config.partition_tables import EachTable, PartitionTable
from config.setting_text import as_text
from config.settings import PREFIX, Settings
from tests.support.processes import REPOSITORY
from tidegate.operations.worker_range import WorkerRange
from tidegate.rate import Rate
from tidegate.timeformat import format_duration

DOCS = REPOSITORY / "docs"
_WORDS = {
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    timedelta: "duration",
    SecretStr: "secret",
    Rate: "rate",
    WorkerRange: "whole number or range, 1 to 1,000",
    IPv4Network: "network",
    IPv6Network: "network",
}


def settings_table() -> str:
    """Every setting, in the order of its declaration."""
    fields = Settings.model_fields
    rows = [
        (f"`{PREFIX}{name.upper()}`", kind_of(field), _default_of_setting(field.default), field.description or "")
        for name, field in fields.items()
    ]
    return table(("variable", "type", "default", "meaning"), rows)


def keys_table(declared: type[BaseModel]) -> str:
    """Every key of one table of the operations file, as it is declared."""
    rows = [
        (f"`{name}`", kind_of(field), _default_in_toml(field), field.description or "")
        for name, field in declared.model_fields.items()
    ]
    return table(("key", "type", "default", "meaning"), rows)


PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "settings.md": {"settings": settings_table},
    "operations-file.md": {
        "queue": lambda: keys_table(QueueTable),
        "downstream": lambda: keys_table(DownstreamTable),
        "each": lambda: keys_table(EachTable),
        "partition": lambda: keys_table(PartitionTable),
        "operation": lambda: keys_table(OperationTable),
        "batch": lambda: keys_table(BatchTable),
        "oauth": lambda: keys_table(OAuthTable),
        "retry": lambda: keys_table(RetryTable),
    },
}
"""What is made in each page, by the name in its comments."""


def made_anew(page: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """The page's text with these parts made anew. AssertionError when it has no place for one."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for part, make in parts.items():
        begin, end = f"<!-- {part}: made by python -m tests.support.described -->\n", f"<!-- end of {part} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        assert found, f"docs/{page} has no place for {part}"
        assert ended, f"docs/{page} does not say where {part} ends"
        text = f"{before}{begin}\n{make()}\n{end}{after}"
    return text


def write(pages: Mapping[str, Mapping[str, Callable[[], str]]]) -> None:
    """Writes these pages anew."""
    for page, parts in pages.items():
        (DOCS / page).write_text(made_anew(page, parts), encoding="utf-8")


def kind_of(field: FieldInfo) -> str:
    """What a value is: "whole number, 1 to 65535"."""
    return _kind(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)


def _kind(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        kind = _plain(annotation)
    elif origin is Annotated:
        kind = ", ".join(filter(None, (_kind(arguments[0]), _bounds(arguments[1:]))))
    elif origin is Literal:
        kind = ", ".join(_code(str(each)) for each in arguments)
    elif origin is dict:
        kind = f"table of {_several(_kind(arguments[1]))}"
    elif origin in {tuple, frozenset, list}:
        kind = f"list of {_several(_kind(arguments[0]))}"
    else:
        # A union. Both kinds of network are one thing to a reader; that a value may be left out, its default says.
        kind = " or ".join(dict.fromkeys(_kind(each) for each in arguments if each is not type(None)))
    return kind


def _plain(annotation: type) -> str:
    return "table" if issubclass(annotation, BaseModel) else _WORDS[annotation]


def _several(kind: str) -> str:
    noun, comma, bounds = kind.partition(",")
    return f"{noun}s{comma}{bounds}"


def _bounds(metadata: Sequence[object]) -> str:
    """What the constraints of pydantic say, those of nested fields too."""
    all_of_them = list(_flattened(metadata))
    least = next((_bound(each.ge) for each in all_of_them if hasattr(each, "ge")), None)
    most = next((_bound(each.le) for each in all_of_them if hasattr(each, "le")), None)
    if most:
        return f"{least} to {most}" if least else f"at most {most}"
    return f"at least {least}" if least else ""


def _bound(value: object) -> str:
    return _code(format_duration(value)) if isinstance(value, timedelta) else f"{value:,}"


def _flattened(metadata: Sequence[object]) -> Iterator[Any]:
    for each in metadata:
        yield from _flattened(each.metadata) if isinstance(each, FieldInfo) else (each,)


def _default_of_setting(value: object) -> str:
    return _code(str(value).lower() if isinstance(value, bool) else as_text(value))


def _default_in_toml(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, BaseModel) or value in (None, "", (), {}):
        return ""
    if isinstance(value, WorkerRange):
        return _code(str(value) if value.is_fixed else json.dumps(str(value)))
    plain = as_text(value) if isinstance(value, timedelta) else sorted(value) if isinstance(value, frozenset) else value
    return _code(json.dumps(plain))


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(row)} |\n" for row in rows]
    return f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|\n{''.join(lines)}".replace("|  |", "| |")
