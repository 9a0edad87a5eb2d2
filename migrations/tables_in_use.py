"""Changes of tables that are read and written meanwhile: on PostgreSQL nobody waits for them for longer than a moment.

A migration of a table that was there before uses these in place of Alembic's own operations; a test refuses the others.
Each does nothing where it was done already: a migration that was stopped half-way is begun again from its beginning. On
SQLite, whose migrations are one short transaction with the only writer's lock, they are Alembic's.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

LOCK_SECONDS = 0.2
"""How long a statement of a migration waits for a lock. Who waits for the exclusive one stands in front of all who come
later, readers, too; behind a backup that would be for hours. So it gives up soon and the migration is tried again."""


def begin(connection: sa.Connection) -> None:
    """Of each transaction of a migration, on PostgreSQL."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(1000 * LOCK_SECONDS)}")


def create_index(name: str, table: str, columns: Sequence[str], *, where: str | None = None) -> None:
    """Builds an index while the table is read and written. What an earlier try left unfinished is dropped first."""
    if not _is_postgresql():
        condition = None if where is None else sa.text(where)
        op.create_index(name, table, list(columns), sqlite_where=condition)
        return
    if _is_valid(name):
        return
    listed = ", ".join(columns)
    _outside_of_a_transaction(
        f"DROP INDEX CONCURRENTLY IF EXISTS {name}",
        f"CREATE INDEX CONCURRENTLY {name} ON {table} ({listed})" + (f" WHERE {where}" if where else ""),
    )


def drop_index(name: str, table: str) -> None:
    """Drops an index while the table is read and written."""
    if _is_postgresql():
        _outside_of_a_transaction(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    else:
        op.drop_index(name, table_name=table)


def replace_index(name: str, table: str, columns: Sequence[str], *, where: str | None = None) -> None:
    """Makes an index anew. The old one serves until the new one is there."""
    if not _is_postgresql():
        op.drop_index(name, table_name=table)
        create_index(name, table, columns, where=where)
        return
    new = f"{name}_new"
    if _is_valid(name) or not _is_valid(new):
        create_index(new, table, columns, where=where)
        drop_index(name, table)
    op.execute(f"ALTER INDEX {new} RENAME TO {name}")


def add_column(table: str, column: sa.Column[object]) -> None:
    """Adds a column that needs no look at the rows: one that may be null, or has a constant default. It takes the
    table's exclusive lock, for an instant, as soon as that is to be had."""
    op.add_column(table, column, if_not_exists=_is_postgresql() or None)


def tune_storage(table: str, **parameters: float) -> None:
    """Sets storage parameters of PostgreSQL, such as autovacuum's. Its lock is in nobody's way who reads or writes."""
    if _is_postgresql():
        listed = ", ".join(f"{name} = {value}" for name, value in parameters.items())
        op.execute(f"ALTER TABLE {table} SET ({listed})")


def widen_check(name: str, table: str, condition: str) -> None:
    """Lets a CHECK allow more. Every row that is there fulfils the new one, and is looked at without a lock that others
    would notice."""
    if not _is_postgresql():
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint(op.f(name), type_="check")
            batch.create_check_constraint(op.f(name), condition)
        return
    op.execute(
        f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}, ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID"
    )
    _outside_of_a_transaction(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def create_trigger(name: str, table: str, *, column: str, condition: str, body: str) -> None:
    """Has statements done for each row whose column is written and that fulfils the condition then. Its lock lets
    readers in, and keeps writers out for an instant."""
    if not _is_postgresql():
        op.execute(f"CREATE TRIGGER {name} AFTER UPDATE OF {column} ON {table} WHEN {condition} BEGIN {body} END")
        return
    op.execute(
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$"
    )
    there = "SELECT 1 FROM pg_trigger WHERE tgname = %s AND tgrelid = to_regclass(%s)"
    if op.get_bind().exec_driver_sql(there, (name, table)).first() is None:
        op.execute(
            f"CREATE TRIGGER {name} AFTER UPDATE OF {column} ON {table} FOR EACH ROW WHEN ({condition}) "
            f"EXECUTE FUNCTION {name}()"
        )


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _is_valid(name: str) -> bool:
    """Whether the index is there and whole: one whose building was stopped stays, costs writers and serves nobody."""
    found = op.get_bind().exec_driver_sql("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", (name,))
    return bool(found.scalar_one_or_none())


def _outside_of_a_transaction(*statements: str) -> None:
    """These wait for transactions that began before them, however long: in nobody's way, so without a limit."""
    connection = op.get_bind()
    connection.exec_driver_sql("COMMIT")
    try:
        for statement in ("SET lock_timeout = 0", "SET statement_timeout = 0", *statements):
            connection.exec_driver_sql(statement)
    finally:
        connection.exec_driver_sql("BEGIN")
        begin(connection)
