"""Copies the rows and the sequence values that migrations have made, where this is needed.

The initial rows of a clone are in its template. For a schema without a template in the same
database, they are copied to a schema beside it, under the same names. In a database there is one
such schema for each schema that migrations have made, and its comment names that schema.
"""

from collections.abc import Container
from typing import LiteralString

from itkit.core import names
from itkit.postgres.server import places, policies, sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import value

# A partition's rows are copied with those of its parent.
_WITH_ROWS = """
    SELECT relname, relkind FROM pg_class WHERE relnamespace = %s::regnamespace
        AND (relkind IN ('r', 'p') AND NOT relispartition OR relkind = 'm' AND relispopulated)
"""
_SEQUENCES = "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'S'"

OF_TESTS: LiteralString = (
    "nspname !~ '^(pg_|information_schema$)' AND nspname !~ '^itkit_seeds(_[0-9a-f]{8})?$'"
)
"""The condition in ``pg_namespace`` for schemas of neither the server nor initial rows."""

_SCHEMAS = sql.SQL("SELECT nspname FROM pg_namespace WHERE {} ORDER BY nspname").format(
    sql.SQL(OF_TESTS)
)
_KEPT = """
    SELECT obj_description(oid, 'pg_namespace'), nspname FROM pg_namespace
    WHERE nspname ~ '^itkit_seeds(_[0-9a-f]{8})?$' ORDER BY 1
"""


def keep(connection: Connection, schema: str, initial: str) -> None:
    """Copy what a schema's migrations have made to another, empty schema.

    Args:
        connection: a connection of our own.
        schema: the schema that was migrated.
        initial: the schema that receives tables with rows, sequences, and a table for each
            materialised view that is populated.
    """
    with connection.transaction(), policies.lifted(connection, schema):
        _copy_rows(connection, schema, initial)
        _copy_sequences(connection, schema, initial)


def keep_database(connection: Connection) -> None:
    """Copy each schema of a database of itkit's to a schema beside it.

    Args:
        connection: a connection of our own, to the database.
    """
    for (schema,) in connection.execute(_SCHEMAS).fetchall():
        kept = sql.Identifier(names.kept_rows_schema(schema))
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(kept))
        connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(kept, schema))
        keep(connection, schema, names.kept_rows_schema(schema))


def of_database(connection: Connection) -> dict[str, str]:
    """Return the schemas that migrations have made, each with the schema of its initial rows."""
    return dict(connection.execute(_KEPT).fetchall())


def drop_others(connection: Connection, schemas: Container[str]) -> None:
    """Drop all other schemas of a database of itkit's, with their contents.

    Args:
        connection: a connection of our own, to the database.
        schemas: the schemas that stay.
    """
    places.require_ours(connection.info.dbname)
    for (schema,) in connection.execute(_SCHEMAS).fetchall():
        if schema not in schemas:
            statement = sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema))
            connection.execute(statement)


def _copy_rows(connection: Connection, schema: str, initial: str) -> None:
    quoted = sql.Identifier(schema).as_string()
    for name, kind in connection.execute(_WITH_ROWS, [quoted]).fetchall():
        table = sql.Identifier(schema, name)
        rows = sql.SQL("ONLY {}" if kind == "r" else "{}").format(table)
        # A view is copied even if it is empty, as its copy shows that it was populated.
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(rows)
        if kind == "m" or value(connection, query):
            copy = sql.Identifier(initial, name)
            connection.execute(sql.SQL("CREATE TABLE {} AS SELECT * FROM {}").format(copy, rows))


def _copy_sequences(connection: Connection, schema: str, initial: str) -> None:
    quoted = sql.Identifier(schema).as_string()
    for (name,) in connection.execute(_SEQUENCES, [quoted]).fetchall():
        query = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, name))
        [(last_value, is_called)] = connection.execute(query).fetchall()
        copy = sql.Identifier(initial, name)
        # Of the widest range, so that it can hold the value of any sequence.
        connection.execute(sql.SQL("CREATE SEQUENCE {} MINVALUE -9223372036854775808").format(copy))
        connection.execute(
            sql.SQL("SELECT setval(to_regclass({}), {}, {})").format(
                copy.as_string(), last_value, is_called
            )
        )
