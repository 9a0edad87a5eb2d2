"""SQL as a person reads it: a clause a line, and a statement within another further right."""

import re
from collections.abc import Iterator, Sequence

_WIDTH = 120
_INDENT = "    "
_WORD = re.compile(r"\s*(?:'(?:[^']|'')*'|\"[^\"]*\"|[(),]|[^\s(),'\"]+)")
_STATEMENTS = {"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}
_CLAUSES = _STATEMENTS | {"FROM", "WHERE", "SET", "VALUES", "RETURNING", "GROUP", "ORDER", "HAVING", "LIMIT", "UNION"}
_JOINS = {"JOIN", "LEFT", "CROSS"}
# After these a word goes on what they began: DELETE FROM, DISTINCT FROM, FOR UPDATE, DO UPDATE, LEFT OUTER JOIN.
_GO_ON = {"DELETE", "DISTINCT", "FOR", "DO", "LEFT", "OUTER", "CROSS"}


def readable(sql: str) -> str:
    """Breaks a statement into lines."""
    return "\n".join(line for depth, words in _clauses(_WORD.findall(sql)) for line in _wrapped(depth, words))


def _clauses(words: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """The words of each clause, each with the space before it, and within how many statements it stands."""
    holds_statement: list[bool] = []  # for each open parenthesis
    clause: list[str] = []
    plain = ["", *(word.strip() for word in words), ""]
    for word, (before, this, after) in zip(words, zip(plain, plain[1:], plain[2:], strict=False), strict=False):
        depth = sum(holds_statement)
        ends_statement = this == ")" and holds_statement.pop()
        if clause and (
            ends_statement or ((not holds_statement or holds_statement[-1]) and _begins(before, this, after))
        ):
            yield depth, clause
            clause = []
        clause.append(word)
        if this == "(":
            holds_statement.append(after in _STATEMENTS)
            if holds_statement[-1]:
                yield depth, clause
                clause = []
    yield 0, clause


def _begins(before: str, word: str, after: str) -> bool:
    """Whether the word begins a clause."""
    if word in {"FOR", "ON"}:  # the ON of a join stays with its table
        return after in {"UPDATE", "SHARE", "CONFLICT"}
    return word in _CLAUSES | _JOINS and before not in _GO_ON


def _wrapped(depth: int, words: Sequence[str]) -> Iterator[str]:
    line = _INDENT * depth + words[0].strip()
    for word in words[1:]:
        if len(line) + len(word) >= _WIDTH and word.startswith((" ", "\n")):
            yield line
            line = _INDENT * (depth + 1) + word.strip()
        else:
            line += " " + word.strip() if word != word.strip() else word
    yield line
