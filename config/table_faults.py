"""What is told about a value of the operations file that pydantic refuses, and about a misspelt name."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from config.batch_tables import BatchTable
from config.operations_tables import OAuthTable, RetryTable
from config.partition_tables import EachTable, PartitionTable
from config.table_types import Table, plain_words
from config.toml_lines import depth_of
from tidegate.operations.queues import Queue, queue_fault


def words_of(fault: Any, model: type[Table]) -> str:
    """One fault of a table in words."""
    if fault["type"] == "missing":
        return "it is missing"
    if fault["type"] == "extra_forbidden":
        inner: Mapping[object, type[Table]] = {
            "retry": RetryTable,
            "oauth": OAuthTable,
            "batch": BatchTable,
            "each": EachTable,
            "partitions": PartitionTable,
        }
        keys = list((inner[fault["loc"][0]] if len(fault["loc"]) > 1 else model).model_fields)
        close = meant(str(fault["loc"][-1]), keys)
        return f"there is no such key{close}" if close else f"there is no such key; there are {', '.join(keys)}"
    return plain_words(fault)


def faults_of(error: ValidationError, model: type[Table], table: object) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """The faults of a table, each with its place in it: one for each value, whichever types that might have had."""
    told: dict[tuple[int | str, ...], list[str]] = {}
    for fault in error.errors():
        # Behind the place of a value that may be of several types stands the type that was tried.
        steps = len(fault["loc"]) if fault["type"] == "missing" else depth_of(table, fault["loc"])
        told.setdefault(fault["loc"][:steps], []).append(words_of(fault, model))
    for place, words in told.items():
        yield place, "; or ".join(dict.fromkeys(words))


def queue_words(name: str, own: Collection[str]) -> str | None:
    """Why an HTTP operation can't have this queue, where `own` are declared; None: it can."""
    there = [Queue.IO.value, *own]
    if name in there:
        return None
    if name == Queue.CPU.value:
        return "'cpu' is for Python functions that compute, and a call waits: leave it out, or name a queue of your own"
    return queue_fault(name) or f"{name!r} is declared nowhere{meant(name, there)}; write [queues.{name}]"


def meant(word: str, words: Iterable[str]) -> str:
    """ " (did you mean 'rate'?)": the nearest of the words that there are; empty if none is near."""
    close = get_close_matches(word, list(words), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
