"""Take a schema back to what its migrations made of it, after tests that have committed.

Once migrated, the rows in it and the values of its sequences are copied to a schema beside it.
A reset deletes from the tables that have rows, puts the copied ones back and sets the sequences:
two round trips, where Django's flush truncates every table and loses the rows of migrations.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from django.db import OperationalError, ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import atomic
from psycopg import sql

from itkit import names
from itkit.exceptions import IsolationError
from itkit.postgres import schemas
from itkit.postgres.server import Connection

_SEQUENCES = "itkit sequences"  # no table of Django's has a space in its name
_LOCK_TIMEOUT_SECONDS = 20

# Partitions are emptied and filled through their parents.
_TABLES = """
    SELECT c.relname, to_regclass(format('%%I.%%I', %(seeds)s::text, c.relname)) IS NOT NULL,
        EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal),
        ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0
              AND NOT attisdropped AND attgenerated = '' ORDER BY attnum),
        ARRAY(SELECT r.relname::text FROM pg_constraint JOIN pg_class r ON r.oid = confrelid
              WHERE conrelid = c.oid AND contype = 'f' AND NOT condeferrable AND r.oid <> c.oid)
    FROM pg_class c WHERE c.relnamespace = %(schema)s::regnamespace
        AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY c.relname
"""


@dataclass(frozen=True)
class _Table:
    name: str
    seeded: bool
    has_triggers: bool
    columns: list[str]
    parents: list[str]


def keep_seeds(connection: Connection, schema: str, run: str) -> None:
    """Copy a schema's rows and the values of its sequences to the schema of its seeds."""
    seeds = names.seed_schema(schema)
    schemas.create(connection, seeds, run)
    with connection.transaction():
        for table in _tables(connection, schema):
            if _has_rows(connection, schema, table.name):
                connection.execute(
                    sql.SQL("CREATE TABLE {} AS TABLE {}").format(
                        sql.Identifier(seeds, table.name), sql.Identifier(schema, table.name)
                    )
                )
        connection.execute(
            sql.SQL(
                "CREATE TABLE {} AS SELECT sequencename AS name,"
                " coalesce(last_value, start_value) AS value, last_value IS NOT NULL AS called"
                " FROM pg_sequences WHERE schemaname = {}"
            ).format(sql.Identifier(seeds, _SEQUENCES), schema)
        )


class Reset:
    """Resets one schema; what to do is read from the catalogue once, at the first reset."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._plan: _Plan | None = None

    def run(self, django: BaseDatabaseWrapper) -> None:
        """Reset the schema, in one transaction on Django's connection.

        Raises:
            IsolationError: a connection that a test has left open holds a lock on a table.
        """
        try:
            self._run(django)
        except ProgrammingError:
            self._plan = None  # a test has dropped or altered a table
            self._run(django)
        except OperationalError as error:
            if "lock timeout" not in str(error):
                raise
            raise IsolationError(
                f"The schema {self._schema} could not be reset within {_LOCK_TIMEOUT_SECONDS} s:"
                " a test has left a connection with an open transaction. Close the connections"
                " of threads that a test starts (django.db.connections.close_all())."
            ) from error

    def _run(self, django: BaseDatabaseWrapper) -> None:
        if self._plan is None:
            django.ensure_connection()
            self._plan = _Plan(self._schema, list(_tables(django.connection, self._schema)))
        with atomic(using=django.alias), django.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_SECONDS}s'")
            cursor.execute(self._plan.detect)
            dirty = {row[0] for row in cursor.fetchall()}
            cursor.execute(self._plan.statements(dirty))


class _Plan:
    """The SQL of a reset, put together once."""

    def __init__(self, schema: str, tables: list[_Table]) -> None:
        self._tables = _parents_first(tables)
        self._schema, self._seeds = schema, names.seed_schema(schema)
        nothing = sql.SQL("SELECT ''::text WHERE false")
        self.detect = _text(sql.SQL(" UNION ALL ").join([nothing, *map(self._detected, tables)]))

    def statements(self, dirty: set[str]) -> str:
        """Return all that the dirty tables need, as one text: one round trip."""
        changed = [table for table in self._tables if table.seeded or table.name in dirty]
        with_triggers = [table for table in changed if table.has_triggers]
        parts = [
            sql.SQL("SET CONSTRAINTS ALL DEFERRED"),
            *self._triggers(with_triggers, "DISABLE"),
            *self._deletes(changed),
            *self._inserts(changed),
            self._sequences(),
            # What is still to be checked would keep the triggers' tables from being altered.
            sql.SQL("SET CONSTRAINTS ALL IMMEDIATE"),
            *self._triggers(with_triggers, "ENABLE"),
        ]
        return _text(sql.SQL("; ").join(parts))

    def _detected(self, table: _Table) -> sql.Composable:
        return sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(
            table.name, self._table(table.name)
        )

    def _deletes(self, tables: list[_Table]) -> Iterator[sql.Composable]:
        for table in reversed(tables):
            yield sql.SQL("DELETE FROM {}").format(self._table(table.name))

    def _inserts(self, tables: list[_Table]) -> Iterator[sql.Composable]:
        for table in tables:
            if table.seeded:
                columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
                yield sql.SQL(
                    "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}"
                ).format(
                    self._table(table.name),
                    columns,
                    columns,
                    sql.Identifier(self._seeds, table.name),
                )

    def _sequences(self) -> sql.Composable:
        return sql.SQL(
            "SELECT setval(to_regclass(format('%I.%I', {}::text, name)), value, called) FROM {}"
        ).format(self._schema, sql.Identifier(self._seeds, _SEQUENCES))

    def _triggers(self, tables: Iterable[_Table], verb: str) -> Iterator[sql.Composable]:
        """Yield what keeps the project's own triggers from answering to the reset."""
        for table in tables:
            yield sql.SQL("ALTER TABLE {} " + verb + " TRIGGER USER").format(
                self._table(table.name)
            )

    def _table(self, name: str) -> sql.Identifier:
        return sql.Identifier(self._schema, name)


def _text(statement: sql.Composable) -> str:
    return statement.as_string(None)


def _tables(connection: Connection, schema: str) -> Iterator[_Table]:
    parameters = {"schema": schema, "seeds": names.seed_schema(schema)}
    with connection.cursor() as cursor:
        for row in cursor.execute(_TABLES, parameters).fetchall():
            yield _Table(*row)


def _has_rows(connection: Connection, schema: str, table: str) -> bool:
    row = connection.execute(
        sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(schema, table))
    ).fetchone()
    return bool(row and row[0])


def _parents_first(tables: list[_Table]) -> list[_Table]:
    """Order tables so that what is referenced comes before what refers to it.

    Django's own foreign keys can wait until the end, so only those of raw SQL that cannot be
    deferred count; in a circle of these there is no right order.
    """
    by_name = {table.name: table for table in tables}
    graph = {table.name: [name for name in table.parents if name in by_name] for table in tables}
    try:
        return [by_name[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError:
        return tables
