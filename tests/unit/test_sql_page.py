"""`make sql`: every prepared statement is on the page, as SQL that a person can read."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tidegate.database.__main__ import as_page, prepared_statements
from tidegate.database.readable_sql import readable

ROOT = Path(__file__).parents[2]
# A claim's text holds the time limits of the worker's operations; the page has those without any.
MAKES = "tidegate.execution.claim_statements.claim_statement"
EXAMPLES = {"tidegate.execution.claim_statements._AT_ONCE", "tidegate.execution.claim_statements._WAITING"}


def test_every_prepared_statement_is_found_under_its_own_name() -> None:
    assert {name for name, _ in prepared_statements()} == {*_made(), *EXAMPLES} - {MAKES}


def test_each_is_shown_once_and_for_both_databases_where_they_differ() -> None:
    page = as_page()
    for name, _ in prepared_statements():
        assert page.count(f"-- {name}\n") == 1
    (clock,) = (part for part in page.split("\n\n") if part.startswith("-- tidegate.database.time.CLOCK"))
    assert clock.splitlines()[1::2] == ["-- PostgreSQL", "-- SQLite"]
    assert "given_rows" not in "".join(part for part in page.split("\n\n") if "-- SQLite" in part)


def test_a_clause_begins_a_line_and_what_stands_within_is_indented() -> None:
    sql = (
        "WITH gone AS (DELETE FROM a WHERE EXTRACT(EPOCH FROM a.at) > :since AND a.note = 'x FROM (y' RETURNING a.id) "
        "SELECT count(*) FROM gone LEFT OUTER JOIN b ON b.id = gone.id WHERE b.x IN (1, 2) FOR UPDATE OF b SKIP LOCKED"
    )
    assert readable(sql).splitlines() == [
        "WITH gone AS (",
        "    DELETE FROM a",
        "    WHERE EXTRACT(EPOCH FROM a.at) > :since AND a.note = 'x FROM (y'",
        "    RETURNING a.id",
        ")",
        "SELECT count(*)",
        "FROM gone",
        "LEFT OUTER JOIN b ON b.id = gone.id",
        "WHERE b.x IN (1, 2)",
        "FOR UPDATE OF b SKIP LOCKED",
    ]


def test_a_long_clause_goes_on_in_the_next_line() -> None:
    lines = readable("SELECT " + ", ".join(f"a_long_table.a_long_column_{n}" for n in range(9))).splitlines()
    assert [len(line) <= 120 for line in lines] == [True, True, True]
    assert [line[:4] for line in lines[1:]] == ["    ", "    "]


def _made() -> Iterator[str]:
    """Where sources say `Prepared(`: module and name, of the assignment or else of the function."""
    for path in sorted((ROOT / "tidegate").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            yield from (f"{module}.{name}" for name in _names_around(node))


def _names_around(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.ClassDef():
            for part in node.body:
                yield from _names_around(part)
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            yield from [name] * any(map(_makes_one, ast.walk(node)))
        case ast.FunctionDef(name=name):
            yield from [name] * any(map(_makes_one, ast.walk(node)))
        case _:
            assert not any(map(_makes_one, ast.walk(node)))


def _makes_one(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).split("[")[0] == "Prepared"
