"""Makes the HTTP operation that a table of the operations file declares."""

from datetime import timedelta
from pathlib import Path

from config.operations_tables import DownstreamTable, OperationTable, pointer_in
from tidegate.operations.http_operation import Expand, HttpOperation
from tidegate.operations.json_schema import JsonSchema
from tidegate.operations.oauth import OAuth

_ATTEMPT_TIMEOUT = timedelta(seconds=10)


def http_operation(
    name: str,
    table: OperationTable,
    downstream: DownstreamTable,
    *,
    folder: Path,
    schema: JsonSchema | None,
    ca_file: Path | None,
    max_result: int,
    expand: Expand,
) -> HttpOperation:
    """The operation of this name. Its files stand in `folder`; `ca_file`: of authorities that all of them trust."""

    def beside(file: str | None) -> Path | None:
        return folder / file if file else None

    return HttpOperation(
        name=name,
        url=table.url,
        method=table.method,
        headers=table.headers,
        body=pointer_in(table.body) if isinstance(table.body, str) else table.body,
        pass_headers=tuple(table.pass_headers),
        schema=schema,
        fail_when=pointer_in(table.fail_when) if table.fail_when else None,
        poll=table.poll,
        batch=table.batch.declared() if table.batch else None,
        description=table.description,
        downstream=table.downstream or name,
        queue=table.queue,
        timeout=table.timeout,
        attempt_timeout=table.attempt_timeout or min(_ATTEMPT_TIMEOUT, table.timeout),
        retry=table.retry.policy(),
        full_on=downstream.full_on,
        max_body=min(table.max_body, table.batch.max_bytes) if table.batch else table.max_body,
        max_result=max_result,
        ca_files=tuple(path for path in (ca_file, beside(table.ca_file)) if path),
        client_certificate=beside(table.client_certificate),
        client_key=beside(table.client_key),
        proxy=table.proxy,
        oauth=OAuth(**table.oauth.model_dump()) if table.oauth else None,
        admission=table.admission,
        expand=expand,
    )
