"""What is told about a value of the operations file that pydantic refuses, and about a misspelt name."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from config.operations_tables import OAuthTable, RetryTable
from config.partition_tables import EachTable, PartitionTable
from config.table_types import Table


def words_of(fault: Any, model: type[Table]) -> str:
    """One fault of a table in words."""
    if fault["type"] == "missing":
        return "it is missing"
    if fault["type"] == "extra_forbidden":
        inner: Mapping[object, type[Table]] = {
            "retry": RetryTable,
            "oauth": OAuthTable,
            "each": EachTable,
            "partitions": PartitionTable,
        }
        keys = list((inner[fault["loc"][0]] if len(fault["loc"]) > 1 else model).model_fields)
        close = meant(str(fault["loc"][-1]), keys)
        return f"there is no such key{close}" if close else f"there is no such key; there are {', '.join(keys)}"
    if fault["type"] == "model_type":
        return "write a table"
    return str(fault["msg"]).removeprefix("Value error, ")


def meant(word: str, words: Iterable[str]) -> str:
    """ " (did you mean 'rate'?)": the nearest of the words that there are; empty if none is near."""
    close = get_close_matches(word, list(words), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
