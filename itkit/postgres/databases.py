"""The databases of one run: found or created at its start, cleared of it at its end."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace

import psycopg
from django.db import connections
from psycopg import sql

from itkit.exceptions import IsolationError
from itkit.postgres import extensions, schemas
from itkit.postgres.server import Connection, connect, connect_to_server, postgres_aliases
from itkit.urls import POSTGRES_SCHEMES, parse

_COMMENT = "itkit: a database for tests; dropped when the last run of itkit ends"
_CREATE_ATTEMPTS = 5


class RunDatabases:
    """Prepares a database for each Postgres alias of ``DATABASES`` and leaves none of us in it.

    Args:
        server: URL of the server; its database is used where the role may not create one.
        run: id of the run.
        owned: whether the server is ours to throw away, so that nothing needs to be cleared.
    """

    def __init__(self, server: str, run: str, *, owned: bool) -> None:
        self._server = parse(server, POSTGRES_SCHEMES)
        self._run = run
        self._owned = owned
        self._releases = ExitStack()

    def start(self, configured_extensions: Iterable[str]) -> dict[str, str]:
        """Prepare the databases and return the URL of each alias.

        Raises:
            IsolationError: the role may neither create a database nor a schema in one.
            ServiceUnavailableError: the server lacks an extension that a migration creates.
        """
        wanted = extensions.wanted(configured_extensions)
        with ExitStack() as undo:
            undo.push(self._releases.__exit__)
            databases = self._ensure_all()
            for database in dict.fromkeys(databases.values()):
                self._prepare(database, wanted)
            undo.pop_all()
        return {alias: str(replace(self._server, name=name)) for alias, name in databases.items()}

    def stop(self) -> None:
        """Drop the run's schemas, and what itkit has created for all runs if this is the last."""
        self._releases.close()

    def _ensure_all(self) -> dict[str, str]:
        with connect_to_server(str(self._server)) as connection:
            return {alias: self._ensure(connection, alias) for alias in postgres_aliases()}

    def _ensure(self, connection: Connection, alias: str) -> str:
        """Return the name of the database of an alias: Django's test database, or else NAME."""
        creation = connections[connections[alias].settings_dict["TEST"]["MIRROR"] or alias].creation
        name: str = creation._get_test_db_name()  # type: ignore[attr-defined]  # not in the stubs
        if _may_create_schemas(connection, name):
            return name
        if not _exists(connection, name) and _may_create_databases(connection):
            _create(connection, name, creation.sql_table_creation_suffix())
            return name
        fallback = self._server.name or str(connections[alias].settings_dict["NAME"])
        if _may_create_schemas(connection, fallback):
            return fallback
        raise IsolationError(
            f"The role {connection.info.user!r} may neither create the database {name!r} nor"
            f" schemas in {fallback!r} on {self._server.address}. Let an administrator run one of:"
            f' GRANT CREATE ON DATABASE "{fallback}" TO "{connection.info.user}";'
            f' or ALTER ROLE "{connection.info.user}" CREATEDB;'
        )

    def _prepare(self, database: str, wanted: Iterable[str]) -> None:
        url = str(replace(self._server, name=database))
        # Not the application name of the tests' connections: those are ended at the end.
        keeper = connect(url, application=f"itkit keeper {self._run}")
        self._releases.callback(self._release, keeper, database)
        # The lock comes first: a schema without it looks stale to every other run.
        schemas.lock_run(keeper, self._run)
        if not self._owned:
            schemas.drop_stale(keeper)
        extensions.prepare(keeper, wanted, may_move=_is_ours(keeper, database))

    def _release(self, keeper: Connection, database: str) -> None:
        with ExitStack() as releases:
            releases.callback(keeper.close)
            if self._owned or keeper.closed:
                return
            releases.callback(self._drop_database, database)
            releases.callback(keeper.close)
            releases.callback(extensions.drop, keeper)
            releases.callback(schemas.drop_of_run, keeper, self._run)

    def _drop_database(self, database: str) -> None:
        """Drop a database that itkit has created, unless another run is connected to it."""
        with connect_to_server(str(self._server)) as connection:
            if not _is_ours(connection, database):
                return
            try:
                connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(database)))
            except (psycopg.errors.ObjectInUse, psycopg.errors.InvalidCatalogName):
                return  # another run is in it and will drop it, or has just done so


def _exists(connection: Connection, name: str) -> bool:
    row = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
    return row is not None


def _may_create_schemas(connection: Connection, database: str) -> bool:
    row = connection.execute(
        "SELECT has_database_privilege(oid, 'CREATE') AND has_database_privilege(oid, 'CONNECT')"
        " FROM pg_database WHERE datname = %s",
        [database],
    ).fetchone()
    return bool(row and row[0])


def _may_create_databases(connection: Connection) -> bool:
    row = connection.execute(
        "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    return bool(row and row[0])


def _create(connection: Connection, name: str, suffix: str) -> None:
    """Create a database and mark it as ours; another run may do the same at the same time."""
    statement = sql.SQL("CREATE DATABASE {} " + suffix).format(sql.Identifier(name))
    for attempt in range(1, _CREATE_ATTEMPTS + 1):
        try:
            connection.execute(statement)
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return
        except psycopg.errors.ObjectInUse:  # the template, while another run copies it
            if attempt == _CREATE_ATTEMPTS:
                raise
        else:
            break
    connection.execute(
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), _COMMENT)
    )


def _is_ours(connection: Connection, database: str) -> bool:
    row = connection.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
        [database],
    ).fetchone()
    return bool(row and row[0] == _COMMENT)
