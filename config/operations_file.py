"""Reads the operations file (TOML): HTTP operations and downstreams' limits. Faults name file and line."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from config.batch_checks import lane_faults, request_faults
from config.environment import place_of, value_of
from config.http_operations import http_operation
from config.operations_tables import DownstreamTable, OperationTable, QueueTable
from config.partition_tables import SharedBy, key_without_effect
from config.references import Template, expander, parse_template
from config.request_checks import (
    header_name_fault,
    header_value_fault,
    oauth_texts,
    passed_header_fault,
    poll_fault,
    proxy_fault,
    tls_faults,
    url_fault,
)
from config.schema_files import read_json_schema
from config.table_faults import faults_of, meant, queue_words
from config.table_types import Table
from config.toml_lines import TomlLines, as_fault
from tidegate.errors import ConfigurationError
from tidegate.operations.declaration import NAME, NAME_RULE, shown
from tidegate.operations.http_operation import Expand, HttpOperation
from tidegate.operations.json_schema import JsonSchema
from tidegate.operations.limits import Limits
from tidegate.operations.queues import OwnQueue, own_queue_fault
from tidegate.operations.url_template import parse_url_template
from tidegate.timeformat import format_duration

_SETTING = "TIDEGATE_OPERATIONS_FILE"
_EACH = {"downstreams": "downstream", "operations": "operation", "queues": "queue"}


@dataclass(frozen=True, kw_only=True)
class OperationsFile:
    """The content of the operations file, and all its faults, each a line.

    `needs`: what has to be in the environment of those who call downstreams. `downstreams`: the declared names;
    `strict`: those of which some partitions keep the order of submit.
    """

    name: str
    lines: TomlLines | None = None
    operations: tuple[HttpOperation, ...] = ()
    limits: tuple[Limits, ...] = ()
    queues: tuple[OwnQueue, ...] = ()
    downstreams: frozenset[str] = frozenset()
    strict: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def place_of(self, operation: str) -> str:
        """The file and line of an operation: `config/operations.toml:9`."""
        return f"{self.name}:{self.lines.line_of(('operations', operation)) if self.lines else 1}"


def read_operations_file(
    path: Path,
    *,
    max_result: int,
    ca_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    shared_by: SharedBy = "none",
) -> OperationsFile:
    """Reads and checks the operations file.

    With an environment its values are put in at each call, and what they make of it is checked, too; only processes
    that call downstreams have it. `shared_by`: whose jobs wait together where a downstream does not say.
    """
    name = shown(path)
    try:
        # As some editors write it, with a byte order mark.
        text = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        return OperationsFile(name=name, faults=(f"{place_of(_SETTING)}: {name} can't be read: {error.strerror}",))
    except UnicodeDecodeError as error:
        return OperationsFile(name=name, faults=(f"{name}: it is not UTF-8: {error}",))
    try:
        lines = TomlLines(text)
    except tomllib.TOMLDecodeError as error:
        return OperationsFile(name=name, faults=(f"{name}:{as_fault(error, text)}",))
    return _Reader(path, lines, max_result, ca_file, environment, shared_by=shared_by).read()


AnyTable = TypeVar("AnyTable", bound=Table)


class _Reader:
    """Reads one file, and goes on after a fault."""

    def __init__(
        self,
        path: Path,
        lines: TomlLines,
        max_result: int,
        ca_file: Path | None,
        environment: Mapping[str, str] | None,
        *,
        shared_by: SharedBy,
    ) -> None:
        self._shared_by = shared_by
        self._name = shown(path)
        self._folder = path.parent
        self._lines = lines
        self._max_result = max_result
        self._ca_file = ca_file
        self._environment = environment
        self._expand: Expand = str if environment is None else expander(environment)
        self._needs: set[str] = set()
        self._schemas: dict[str, JsonSchema] = {}
        self._faults: list[tuple[int, str]] = []

    def read(self) -> OperationsFile:
        document = self._lines.document
        for name in document.keys() - _EACH.keys():
            self._tell((name,), f"there is no such table{meant(name, _EACH)}")
        queues = self._tables("queues", QueueTable)
        downstreams = self._tables("downstreams", DownstreamTable)
        operations = self._tables("operations", OperationTable)
        # A downstream whose table has faults still counts as declared.
        declared = document["downstreams"] if isinstance(document.get("downstreams"), dict) else {}
        for name, table in operations.items():
            self._check(name, table, declared)
            if words := queue_words(table.queue, queues):
                self._tell(("operations", name, "queue"), words)
            if table.batch and (lane := downstreams.get(table.downstream or name)):
                batch = table.batch.declared()
                for place, reason in lane_faults(batch, is_strict=lane.is_strict, is_paced=bool(lane.rate)):
                    self._tell(("operations", name, *place), reason)
        for name, shared in downstreams.items():
            if found := key_without_effect(shared):
                self._tell(("downstreams", name, found[0]), found[1])
        return OperationsFile(
            name=self._name,
            lines=self._lines,
            operations=tuple(
                http_operation(
                    name,
                    table,
                    downstreams.get(table.downstream or name, DownstreamTable()),
                    folder=self._folder,
                    schema=self._schemas.get(name),
                    ca_file=self._ca_file,
                    max_result=self._max_result,
                    expand=self._expand,
                )
                for name, table in operations.items()
            ),
            limits=tuple(table.declared(name, shared_by=self._shared_by) for name, table in downstreams.items()),
            queues=tuple(table.declared(name) for name, table in queues.items()),
            downstreams=frozenset(declared),
            strict=frozenset(name for name, table in downstreams.items() if table.is_strict),
            needs=tuple(sorted(self._needs)),
            faults=tuple(told for _, told in sorted(self._faults, key=lambda fault: fault[0])),
        )

    def _tell(self, location: Sequence[int | str], words: str) -> None:
        line = self._lines.line_of(location)
        told = f"{self._name}:{line}: {'.'.join(map(str, location))}: {words}"
        self._faults.append((line, " ".join(told.split())))

    def _tables(self, kind: str, model: type[AnyTable]) -> dict[str, AnyTable]:
        tables = self._lines.document.get(kind, {})
        if not isinstance(tables, dict):
            self._tell((kind,), f"write [{kind}.name] for each {_EACH[kind]}")
            return {}
        read = {}
        for name, table in tables.items():
            if reason := own_queue_fault(name) if kind == "queues" else _name_fault(name):
                self._tell((kind, name), reason)
            try:
                read[name] = model.model_validate(table)
            except ValidationError as error:
                for place, words in faults_of(error, model, table):
                    self._tell((kind, name, *place), words)
                if isinstance(table, dict):  # its valid keys are checked further
                    bad = {fault["loc"][0] for fault in error.errors()}
                    good = {key: value for key, value in table.items() if key not in bad}
                    read[name] = model.model_validate({**model.stand_ins, **good})
        return read

    def _check(self, name: str, table: OperationTable, declared: Mapping[str, object]) -> None:
        """Checks what more than one value decides."""
        at = ("operations", name)
        # A misspelt name must not mean that there is no limit.
        if table.downstream not in {None, name, *declared}:
            words = f"{table.downstream!r} is declared nowhere{meant(str(table.downstream), declared)}"
            self._tell((*at, "downstream"), f"{words}; write [downstreams.{table.downstream}]")
        if table.attempt_timeout and table.attempt_timeout > table.timeout:
            whole = format_duration(table.timeout)
            self._tell((*at, "attempt_timeout"), f"it is longer than the timeout of the whole, {whole}")
        if table.retry.max_delay and table.retry.delay > table.retry.max_delay:
            self._tell(
                (*at, "retry", "delay"), f"it is longer than max_delay, {format_duration(table.retry.max_delay)}"
            )
        self._check_request(at, table)
        self._check_way(at, table)
        for key, text, fault_of in oauth_texts(table.oauth) if table.oauth else ():
            self._check_text((*at, "oauth", key), text, fault_of)
        if table.input_schema is not None:
            try:
                self._schemas[name] = read_json_schema(self._folder / table.input_schema)
            except ValueError as error:
                self._tell((*at, "input_schema"), f"{table.input_schema}: {error}")

    def _check_request(self, at: tuple[str, str], table: OperationTable) -> None:
        """Checks what the request is made of."""
        for key, words in request_faults(table):
            self._tell((*at, key), words)
        if table.poll and (reason := poll_fault(table.method, table.retry.on)):
            self._tell((*at, "poll"), reason)
        try:
            url = parse_url_template(table.url)
        except ValueError as error:
            self._tell((*at, "url"), str(error))
        else:
            self._check_text((*at, "url"), table.url, partial(url_fault, url))
        seen: dict[str, str] = {}
        for header, value in table.headers.items():
            here = (*at, "headers", header)
            if reason := header_name_fault(header, sets_token=table.oauth is not None):
                self._tell(here, reason)
            elif seen.setdefault(header.lower(), header) != header:
                self._tell(here, f"it stands there twice, as {seen[header.lower()]}, too")
            self._check_text(here, value, partial(header_value_fault, value))
        for header in table.pass_headers:
            if reason := passed_header_fault(header):
                self._tell((*at, "pass_headers"), f"{header}: {reason}")
            elif header.lower() in {each.lower() for each in table.headers}:
                self._tell((*at, "pass_headers"), f"{header}: headers sets it already")
            elif seen.setdefault(header.lower(), header) != header:
                self._tell((*at, "pass_headers"), f"{header}: it stands there twice, as {seen[header.lower()]}, too")

    def _check_text(self, location: Sequence[str], text: str, fault_of: Callable[[Expand], str | None]) -> None:
        """Checks a text with references: the references, and what their values make of it if these are known."""
        try:
            template = parse_template(text)
        except ValueError as error:
            self._tell(location, str(error))
            return
        self._needs |= {each.name for each in template.references if each.default is None}
        if self._environment is None and template.references:
            return
        try:
            template.expand(self._environment or {})
        except ConfigurationError as error:
            for fault in error.faults:
                self._tell(location, fault)
            return
        if reason := fault_of(expander(self._environment or {})):
            self._tell(location, f"{self._with_values(template)}{reason}")

    def _with_values(self, template: Template) -> str:
        """Names the references whose values are part of the fault. The values may be secrets and are not shown."""
        names = [each.name for each in template.references if value_of(each.name, self._environment or {})]
        return f"with the value of {' and '.join(f'${{{name}}}' for name in names)} in it: " if names else ""

    def _beside(self, file: str | None) -> Path | None:
        return self._folder / file if file else None

    def _check_way(self, at: tuple[str, str], table: OperationTable) -> None:
        """Checks how the call gets there. Its files are those of whoever makes it: only there they have to be."""
        if table.proxy is not None:
            self._check_text((*at, "proxy"), table.proxy, partial(proxy_fault, table.proxy))
        if table.client_key and not table.client_certificate:
            self._tell((*at, "client_key"), "it is the key of client_certificate, which is missing")
        elif self._environment is not None:
            certificate, key = self._beside(table.client_certificate), self._beside(table.client_key)
            for name, reason in tls_faults(self._beside(table.ca_file), certificate, key):
                self._tell((*at, name), reason)


def _name_fault(name: str) -> str | None:
    return None if NAME.fullmatch(name) else f"{name!r} can't be a name: {NAME_RULE}"
