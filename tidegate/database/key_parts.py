"""SQL of the two parts of a key such as "client/name": what stands before and after its first slash."""

from typing import Any

from sqlalchemy import Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction


class before_slash(GenericFunction[str]):  # noqa: N801 - it is written as a function
    """The part before the first slash; NULL of NULL."""

    type = Text()
    name = "tidegate_before_slash"
    inherit_cache = True


class after_slash(GenericFunction[str]):  # noqa: N801 - as above
    """The part after the first slash; NULL of NULL."""

    type = Text()
    name = "tidegate_after_slash"
    inherit_cache = True


@compiles(before_slash)
def _before(element: before_slash, compiler: Any, **kw: Any) -> str:
    key = compiler.process(element.clauses, **kw)
    return f"substr({key}, 1, instr({key}, '/') - 1)"


@compiles(before_slash, "postgresql")
def _before_on_postgresql(element: before_slash, compiler: Any, **kw: Any) -> str:
    return f"split_part({compiler.process(element.clauses, **kw)}, '/', 1)"


@compiles(after_slash)
def _after(element: after_slash, compiler: Any, **kw: Any) -> str:
    key = compiler.process(element.clauses, **kw)
    return f"substr({key}, instr({key}, '/') + 1)"


@compiles(after_slash, "postgresql")
def _after_on_postgresql(element: after_slash, compiler: Any, **kw: Any) -> str:
    key = compiler.process(element.clauses, **kw)
    return f"substr({key}, strpos({key}, '/') + 1)"
