"""A ledger of every row that is inserted into a schema of ours, kept by the database itself.

A trigger on each table notes the keys of each statement's new rows. So it also sees rows that
nobody reports to a manager: those of raw SQL, COPY, other threads and other processes. It misses
only TRUNCATE, and sessions that have switched triggers off. It makes a save about half as expensive
again, so that a test has to ask for it.
"""

from collections.abc import Iterable
from typing import Any, Final

from django.db import connections, models, transaction

from itkit.core import names
from itkit.data.cleanup import rows
from itkit.exceptions import DataError

Model = type[models.Model]

_TABLE: Final = "itkit_ledger"
_TRIGGER: Final = "itkit_note"
_LOCK_SECONDS: Final = 5  # a transaction that a thread has left open must not block the run
_OPEN: Final = f"""
    SET LOCAL client_min_messages = warning;
    SET LOCAL lock_timeout = '{_LOCK_SECONDS}s';
    CREATE UNLOGGED TABLE {_TABLE} (table_name text NOT NULL, key text NOT NULL);
    CREATE FUNCTION {_TRIGGER}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format(
            'INSERT INTO %I.{_TABLE} SELECT %L, %I::text FROM new_rows',
            TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_ARGV[0]
        );
        RETURN NULL;
    END $$;
"""
_NOTE: Final = f"""
    CREATE TRIGGER {_TRIGGER} AFTER INSERT ON {{table}} REFERENCING NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION {_TRIGGER}({{column}});
"""
_CLOSE: Final = f"""
    SET LOCAL client_min_messages = warning;
    SET LOCAL lock_timeout = '{_LOCK_SECONDS}s';
    SET CONSTRAINTS ALL IMMEDIATE;  -- a table with pending ones lets no trigger go
    DROP FUNCTION IF EXISTS {_TRIGGER}() CASCADE;
    DROP TABLE IF EXISTS {_TABLE};
"""

_noting: set[str] = set()
"""Aliases of ``DATABASES`` in which there is a ledger."""


def open_in(using: str, tables: Iterable[Model]) -> None:
    """Begin to note the new rows of some models.

    Raises:
        DataError: the schema is not one of ours, so that nothing may be added to it; or it has a
            ledger already.
    """
    connection: Any = connections[using]
    _check(connection)
    quote = connection.ops.quote_name
    notes = [
        _NOTE.format(table=quote(model._meta.db_table), column=_literal(model._meta.pk))
        for model in tables
    ]
    with transaction.atomic(using=using), connection.cursor() as cursor:
        cursor.execute(_OPEN + "".join(notes))
    _noting.add(using)


def close_in(using: str) -> None:
    """Stop noting, and forget what was noted; the rollback of a test case does the same."""
    if using not in _noting or rows.is_broken(using):
        return
    _noting.discard(using)
    if rows.is_of_test_case(using):
        return
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(_CLOSE)


def noted_in(using: str) -> dict[str, set[str]]:
    """Return the keys of new rows as text, by table; some rows may not exist any more."""
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT table_name, array_agg(DISTINCT key) FROM {_TABLE} GROUP BY 1")
        return {table: set(keys) for table, keys in cursor.fetchall()}


def _check(connection: Any) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s), current_schema(), current_database()", [_TABLE])
            is_kept, *found = cursor.fetchone()
        if is_kept:
            raise DataError('Another manager with leaks="exact" looks after this database already.')
        if any(names.run_of_schema(name) for name in found if name):
            return
    raise DataError(
        f'leaks="exact" adds triggers to tables, and DATABASES[{connection.alias!r}] is in no '
        'schema of itkit. Run the test with --integration, or use leaks="fail".'
    )


def _literal(field: Any) -> str:
    column: str = field.column
    return "'" + column.replace("'", "''") + "'"
