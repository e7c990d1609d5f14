"""Extensions, created in a schema of their own before any migration asks for them.

An extension belongs to the whole database, yet lands in the first schema of the search_path. Made
by a migration it would sit in one worker's schema: no other would see its types, and all would
lose it when that schema is dropped. Made before, in ``itkit_ext``, each migration's
``CREATE EXTENSION IF NOT EXISTS`` finds it there.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import psycopg
from django.contrib.postgres.operations import CreateExtension
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import RunSQL, SeparateDatabaseAndState
from psycopg import sql

from itkit import conf
from itkit.exceptions import IsolationError, ServiceUnavailableError
from itkit.names import EXTENSION_SCHEMA
from itkit.postgres import databases, locks
from itkit.postgres.server import Connection, value

_COMMENT = "itkit: the extensions of the tests; dropped with the last run"
_CREATE = re.compile(
    r"\bCREATE\s+EXTENSION\s+(?:IF\s+NOT\s+EXISTS\s+)?(?:\"(?P<quoted>[^\"]+)\"|(?P<plain>[\w-]+))",
    re.IGNORECASE,
)


def wanted(configured: Iterable[str]) -> list[str]:
    """Return the extensions that the settings and the project's migrations create, in order."""
    return list(dict.fromkeys([*configured, *_from_engines(), *_from_migrations()]))


def prepare_for_project(connection: Connection) -> None:
    """Create all extensions that the settings and the project's migrations ask for.

    Raises:
        ServiceUnavailableError: the server does not have an extension.
        IsolationError: it sits in another schema, or the role may not create it.
    """
    may_move = databases.is_ours(connection, connection.info.dbname)
    prepare(connection, wanted(conf.get().postgres.extensions), may_move=may_move)


def prepare(connection: Connection, extensions: Iterable[str], *, may_move: bool) -> None:
    """Create the schema of extensions and each of them in it.

    Args:
        connection: to the database of the tests.
        extensions: their names.
        may_move: whether the database was created by itkit, so that an extension that its
            template brought along in another schema may be moved.

    Raises:
        ServiceUnavailableError: the server does not have an extension.
        IsolationError: it sits in another schema, or the role may not create it.
    """
    # Two runs may get here at once: IF NOT EXISTS alone loses that race with a unique violation.
    with locks.setup(connection), connection.transaction():
        if _schema_comment(connection) is None:
            schema = sql.Identifier(EXTENSION_SCHEMA)
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, _COMMENT))
            # The roles of the workers: what is in there belongs to everybody by Postgres' defaults.
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO PUBLIC").format(schema))
        for name in extensions:
            _ensure(connection, name, may_move=may_move)


def are_ours(connection: Connection) -> bool:
    """Whether itkit has created the schema of extensions in this database."""
    return _schema_comment(connection) == _COMMENT


def drop(connection: Connection) -> None:
    """Drop the schema of extensions, unless another run is alive in this database.

    The caller holds the lock of the set-up of this database.
    """
    if are_ours(connection) and not locks.other_runs_alive(connection):
        schema = sql.Identifier(EXTENSION_SCHEMA)
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))


def _schema_comment(connection: Connection) -> str | None:
    """Return the comment of the schema of extensions; None when there is no such schema."""
    comment: str | None = value(
        connection,
        "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace"
        " WHERE nspname = %s",
        [EXTENSION_SCHEMA],
    )
    return comment


def _ensure(connection: Connection, name: str, *, may_move: bool) -> None:
    schema = value(
        connection,
        "SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace"
        " WHERE extname = %s",
        [name],
    )
    if schema is None:
        _create(connection, name)
    elif schema not in {EXTENSION_SCHEMA, "pg_catalog"}:
        _move(connection, name, schema, may_move=may_move)


def _create(connection: Connection, name: str) -> None:
    statement = sql.SQL("CREATE EXTENSION {} WITH SCHEMA {} CASCADE").format(
        sql.Identifier(name), sql.Identifier(EXTENSION_SCHEMA)
    )
    try:
        connection.execute(statement)
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as error:
        raise ServiceUnavailableError(
            f"A migration creates the extension {name!r}, which this Postgres does not have"
            f" ({_first_line(error)}). The embedded one lacks pgcrypto, uuid-ossp, xml2 and"
            " PostGIS: install a system Postgres with it and set ITKIT_SOURCE=system, or name a"
            " server that has it by ITKIT_POSTGRES_URL=postgresql://…"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise IsolationError(
            f"The role {connection.info.user!r} may not create the extension {name!r}"
            f" ({_first_line(error)}). Let a superuser run once, in the database"
            f" {connection.info.dbname!r}: {statement.as_string(connection)};"
        ) from error


def _move(connection: Connection, name: str, schema: str, *, may_move: bool) -> None:
    if not may_move:
        raise IsolationError(
            f"The extension {name!r} sits in the schema {schema!r} of the database"
            f" {connection.info.dbname!r}, which is not itkit's to change, and the tests'"
            f" search_path leaves {schema!r} out. Give the role {connection.info.user!r} the right"
            " to create databases (ALTER ROLE … CREATEDB), or name an empty database by"
            " ITKIT_POSTGRES_URL."
        )
    connection.execute(
        sql.SQL("ALTER EXTENSION {} SET SCHEMA {}").format(
            sql.Identifier(name), sql.Identifier(EXTENSION_SCHEMA)
        )
    )


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0]


def _from_engines() -> Iterator[str]:
    if any(
        connection.settings_dict["ENGINE"].endswith(".postgis") for connection in connections.all()
    ):
        yield "postgis"


@cache
def _from_migrations() -> tuple[str, ...]:
    loader = MigrationLoader(None, ignore_no_migrations=True)
    found = (
        name
        for key in sorted(loader.disk_migrations)
        for name in _from_operations(loader.disk_migrations[key].operations)
    )
    return tuple(found)


def _from_operations(operations: Iterable[Any]) -> Iterator[str]:
    for operation in operations:
        if isinstance(operation, CreateExtension):
            yield operation.name
        elif isinstance(operation, SeparateDatabaseAndState):
            yield from _from_operations(operation.database_operations)
        elif isinstance(operation, RunSQL):
            yield from _from_sql(operation.sql)


def _from_sql(statements: Any) -> Iterator[str]:
    """Yield the extensions that a RunSQL creates: it takes a text, or texts with parameters."""
    if isinstance(statements, str):
        yield from (match["quoted"] or match["plain"] for match in _CREATE.finditer(statements))
    else:
        for statement in statements:
            text = statement if isinstance(statement, str) else statement[0]
            yield from _from_sql(text)
