"""Take a schema back to what its migrations made of it, after tests that have committed.

Once migrated, the rows in it and the values of its sequences are copied to a schema beside it.
A reset deletes from the tables that have rows, puts the copied ones back and sets the sequences:
two round trips, where Django's flush truncates every table and loses the rows of migrations.

It has a connection of its own, so that it does not matter in which state a test left Django's.
"""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql
from psycopg.pq import TransactionStatus

from itkit import names
from itkit.exceptions import IsolationError
from itkit.postgres import schemas
from itkit.postgres.server import Connection, connect, value

_SEQUENCES = "itkit sequences"  # no table of Django's has a space in its name
_VIEWS = "itkit views"
_LOCK_TIMEOUT = "20s"

# Partitions are emptied and filled through their parents, which have no rows of their own.
_TABLES = """
    SELECT c.relname, c.relkind = 'r',
        to_regclass(format('%%I.%%I', %(seeds)s::text, c.relname)) IS NOT NULL,
        ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0
              AND NOT attisdropped AND attgenerated = '' ORDER BY attnum),
        ARRAY(SELECT tgname::text FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal
              AND tgenabled = 'O'),
        ARRAY(SELECT tgname::text FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal
              AND tgenabled = 'A')
    FROM pg_class c WHERE c.relnamespace = %(schema)s::regnamespace
        AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY c.relname
"""


@dataclass(frozen=True)
class _Table:
    name: str
    is_plain: bool
    is_seeded: bool
    columns: list[str]
    triggers: list[str]
    always_triggers: list[str]


def keep_seeds(connection: Connection, schema: str, run: str) -> None:
    """Copy a schema's rows and the values of its sequences to the schema of its seeds."""
    seeds = names.seed_schema(schema)
    schemas.create(connection, seeds, run)
    with connection.transaction():
        for table in _tables(connection, schema):
            rows = _rows_of(schema, table)
            if _exists(connection, rows):
                copy = sql.Identifier(seeds, table.name)
                connection.execute(
                    sql.SQL("CREATE TABLE {} AS SELECT * FROM {}").format(copy, rows)
                )
        connection.execute(
            sql.SQL(
                "CREATE TABLE {} AS SELECT sequencename AS name,"
                " coalesce(last_value, start_value) AS value, last_value IS NOT NULL AS called"
                " FROM pg_sequences WHERE schemaname = {}"
            ).format(sql.Identifier(seeds, _SEQUENCES), schema)
        )
        connection.execute(
            sql.SQL(
                "CREATE TABLE {} AS SELECT c.relname AS name FROM pg_class c WHERE relkind = 'm'"
                " AND relispopulated AND relnamespace = {}::regnamespace ORDER BY c.oid"
            ).format(sql.Identifier(seeds, _VIEWS), schema)
        )


class Reset:
    """Resets one schema; what to do is read from the catalogue once, at the first reset.

    Args:
        url: of the database.
        schema: of the worker.
        application: name of the connections of the worker's tests.
    """

    def __init__(self, url: str, *, schema: str, application: str) -> None:
        self._url = url
        self._schema = schema
        self._application = application
        self._connection: Connection | None = None
        self._plan: _Plan | None = None

    def run(self, django: BaseDatabaseWrapper) -> None:
        """Reset the schema.

        Warns:
            ResourceWarning: a test has left other connections with an open transaction.

        Raises:
            IsolationError: something that is not ours holds a lock on a table.
        """
        _end_transaction(django)
        connection = self._connected()
        ended = schemas.end_open_transactions(connection, self._application)
        try:
            self._reset(connection)
        except psycopg.ProgrammingError:
            self._plan = None  # a test has dropped or altered a table
            self._reset(connection)
        except psycopg.errors.LockNotAvailable as error:
            raise IsolationError(
                f"The schema {self._schema} could not be reset: another connection has held a"
                f" lock on one of its tables for {_LOCK_TIMEOUT}."
            ) from error
        if ended:
            warnings.warn(
                f"The test left {ended} connection(s) with an open transaction, which itkit has"
                " ended. Close the connections of threads that a test starts:"
                " django.db.connections.close_all().",
                ResourceWarning,
                stacklevel=2,
            )

    def close(self) -> None:
        """Close the reset's own connection."""
        if self._connection is not None:
            self._connection.close()

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            path = f"{self._schema},{names.EXTENSION_SCHEMA}"
            self._connection = connect(self._url, application="itkit reset", search_path=path)
        return self._connection

    def _reset(self, connection: Connection) -> None:
        if self._plan is None:
            self._plan = _Plan(connection, self._schema)
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            dirty = {row[0] for row in connection.execute(self._plan.detect).fetchall()}
            connection.execute(self._plan.statements(dirty))


class _Plan:
    """The SQL of a reset, put together once."""

    def __init__(self, connection: Connection, schema: str) -> None:
        self._schema, self._seeds = schema, names.seed_schema(schema)
        self._tables = list(_tables(connection, schema))
        views = sql.SQL("SELECT name FROM {}").format(sql.Identifier(self._seeds, _VIEWS))
        self._views = [row[0] for row in connection.execute(views).fetchall()]
        nothing = sql.SQL("SELECT ''::text WHERE false")
        self.detect = sql.SQL(" UNION ALL ").join([nothing, *map(self._detect, self._tables)])

    def statements(self, dirty: set[str]) -> sql.Composed:
        """Return all that the dirty tables need, as one text: one round trip."""
        changed = [table for table in self._tables if table.is_seeded or table.name in dirty]
        parts = [
            sql.SQL("SET CONSTRAINTS ALL DEFERRED"),
            *self._triggers_off(changed),
            _at_once(self._delete(table) for table in changed),
            _at_once(self._insert(table) for table in changed if table.is_seeded),
            self._set_sequences(),
            # What is still to be checked would keep the triggers' tables from being altered.
            sql.SQL("SET CONSTRAINTS ALL IMMEDIATE"),
            *self._triggers_on(changed),
            *map(self._refresh, self._views),
        ]
        return sql.SQL("; ").join(parts)

    def _detect(self, table: _Table) -> sql.Composable:
        return sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(
            table.name, _rows_of(self._schema, table)
        )

    def _delete(self, table: _Table) -> sql.Composable:
        return sql.SQL("DELETE FROM {}").format(_rows_of(self._schema, table))

    def _insert(self, table: _Table) -> sql.Composable:
        columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
        return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
            sql.Identifier(self._schema, table.name),
            columns,
            columns,
            sql.Identifier(self._seeds, table.name),
        )

    def _set_sequences(self) -> sql.Composable:
        return sql.SQL(
            "SELECT setval(to_regclass(format('%I.%I', {}::text, name)), value, called) FROM {}"
        ).format(self._schema, sql.Identifier(self._seeds, _SEQUENCES))

    def _triggers_off(self, tables: Iterable[_Table]) -> Iterator[sql.Composable]:
        """Yield what keeps the project's own triggers from answering to the reset."""
        for table in tables:
            for trigger in (*table.triggers, *table.always_triggers):
                yield self._alter("DISABLE TRIGGER", table, trigger)

    def _triggers_on(self, tables: Iterable[_Table]) -> Iterator[sql.Composable]:
        for table in tables:
            for trigger in table.triggers:
                yield self._alter("ENABLE TRIGGER", table, trigger)
            for trigger in table.always_triggers:
                yield self._alter("ENABLE ALWAYS TRIGGER", table, trigger)

    def _alter(self, action: str, table: _Table, trigger: str) -> sql.Composable:
        return sql.SQL("ALTER TABLE {} " + action + " {}").format(
            sql.Identifier(self._schema, table.name), sql.Identifier(trigger)
        )

    def _refresh(self, view: str) -> sql.Composable:
        return sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(self._schema, view))


def _at_once(statements: Iterable[sql.Composable]) -> sql.Composable:
    """Join statements into one, so that foreign keys are checked when all of them are done.

    Then their order does not matter, not even where keys that cannot be deferred form a circle.
    """
    parts = [
        sql.SQL("{} AS ({})").format(sql.Identifier(f"s{number}"), statement)
        for number, statement in enumerate(statements)
    ]
    return sql.SQL("WITH {} SELECT").format(sql.SQL(", ").join(parts)) if parts else sql.SQL("")


def _rows_of(schema: str, table: _Table) -> sql.Composable:
    """Name a table in a FROM clause, without the rows of tables that inherit from it."""
    name = sql.Identifier(schema, table.name)
    return sql.SQL("ONLY {}").format(name) if table.is_plain else name


def _tables(connection: Connection, schema: str) -> Iterator[_Table]:
    parameters = {"schema": schema, "seeds": names.seed_schema(schema)}
    for row in connection.execute(_TABLES, parameters).fetchall():
        yield _Table(*row)


def _exists(connection: Connection, rows: sql.Composable) -> bool:
    return bool(value(connection, sql.SQL("SELECT EXISTS (SELECT FROM {})").format(rows)))


def _end_transaction(django: BaseDatabaseWrapper) -> None:
    """Give Django a new connection where a test has left it inside of a transaction."""
    raw: Connection | None = django.connection
    if raw is None or raw.closed:
        return
    if django.in_atomic_block or raw.info.transaction_status != TransactionStatus.IDLE:
        django.close()
        django.connect()  # which resets what Django knows of the transaction, as close() does not
