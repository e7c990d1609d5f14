"""Lifts policies that hide rows from the owner of their table.

It is a module of its own, as both the templates and the copies of initial rows need it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from itkit.postgres.server import sql
from itkit.postgres.server.driver import Connection

_FORCED = """
    SELECT relname FROM pg_class
    WHERE relnamespace = %s::regnamespace AND relrowsecurity AND relforcerowsecurity
"""


def lift(connection: Connection, schema: str) -> list[sql.Identifier]:
    """Let the owner of a schema's tables see all rows; return the tables that hid some."""
    quoted = sql.Identifier(schema).as_string()
    labels = connection.execute(_FORCED, [quoted]).fetchall()
    tables = [sql.Identifier(schema, label) for (label,) in labels]
    for table in tables:
        connection.execute(sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY").format(table))
    return tables


@contextmanager
def lifted(connection: Connection, schema: str) -> Iterator[None]:
    """Let the owner of a schema's tables see all rows for a block."""
    tables = lift(connection, schema)
    try:
        yield
    finally:
        for table in tables:
            connection.execute(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(table))
