"""Why a batch does not go with what else is declared of an operation or its downstream."""

from collections.abc import Iterator

from config.operations_tables import OperationTable
from tidegate.operations.batch import Batch
from tidegate.operations.http_operation import BODILESS
from tidegate.operations.url_template import parse_url_template


def request_faults(table: OperationTable) -> Iterator[tuple[str, str]]:
    """Each key that is of one job's request alone, and why a call for several can't have it."""
    if table.batch is None:
        return
    if table.method in BODILESS:
        yield "method", f"a batch stands in a body, and {table.method} has none: write POST, PUT or PATCH"
    if table.body is not None:
        yield "body", "it does not go with batch, whose format says what is sent"
    if table.pass_headers:
        yield "pass_headers", "they do not go with batch: each job has its own, and a call has one set"
    if table.poll:
        yield "poll", "it does not go with batch: the Location of a 202 would be that of several jobs"
    if "max_body" in table.model_fields_set and table.max_body > table.batch.max_bytes:
        yield "max_body", f"such an input would fit into no call: batch.max_bytes is {table.batch.max_bytes}"
    try:
        places = parse_url_template(table.url).places
    except ValueError:
        return  # which is told already
    if places:
        names = " and ".join(f"{{{place.name}}}" for place in places)
        yield "url", f"{names}: a batch is one call for several jobs, and each would need a URL of its own"


def lane_faults(batch: Batch, *, is_strict: bool, is_paced: bool) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each place of a batch that the downstream does not go with, and why."""
    if is_strict:
        words = 'its downstream has order = "strict": one job of a partition at a time, and so no two in one call'
        yield ("batch",), words
    if is_paced and batch.linger:
        words = "its downstream has a rate, so nobody waits for company: what is there when the slot comes goes along"
        yield ("batch", "linger"), words
