"""The databases of one run: found or created at its start, cleared of it at its end."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import psycopg
from django.db import connections
from psycopg import sql

from itkit.exceptions import IsolationError, ServiceUnavailableError
from itkit.postgres import extensions, schemas
from itkit.postgres.server import Connection, connect, connect_to_server, postgres_aliases, value
from itkit.urls import POSTGRES_SCHEMES, parse

_COMMENT = "itkit: a database for tests; dropped when the last run of itkit ends"


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
        self._keepers: dict[str, Connection] = {}
        self._releases = ExitStack()

    def start(self, configured_extensions: Iterable[str]) -> dict[str, str]:
        """Prepare the databases and return the URL of each alias.

        Raises:
            IsolationError: the role may neither create a database nor a schema in one.
            ServiceUnavailableError: the server lacks an extension that a migration creates.
        """
        wanted = extensions.wanted(configured_extensions)
        with ExitStack() as undo:
            undo.enter_context(self._failures_explained())
            undo.push(self._releases.__exit__)
            databases = self._enter_all()
            for keeper in self._keepers.values():
                if not self._owned:
                    schemas.drop_stale(keeper)
                extensions.prepare(keeper, wanted, may_move=_is_ours(keeper, keeper.info.dbname))
            undo.pop_all()
        return {alias: str(replace(self._server, name=name)) for alias, name in databases.items()}

    def stop(self) -> None:
        """Drop the run's schemas, and what itkit has created for all runs if this is the last.

        Raises:
            ServiceUnavailableError: the server did not answer; the next run drops what is left.
        """
        try:
            self._releases.close()
        except psycopg.OperationalError as error:
            raise ServiceUnavailableError(
                f"The schemas of this run could not be dropped from {self._server.address}; the"
                f" next run with --integration will do so. {str(error).strip()}"
            ) from error

    def _enter_all(self) -> dict[str, str]:
        """Find or create the database of each alias, and hold each until the end of the run."""
        with self._alone() as maintenance:
            databases = {alias: self._ensure(maintenance, alias) for alias in postgres_aliases()}
            for name in dict.fromkeys(databases.values()):
                self._enter(name)
        return databases

    def _enter(self, database: str) -> None:
        url = str(replace(self._server, name=database))
        # Not the application name of the tests' connections: those are ended at the end.
        keeper = connect(url, application=f"itkit keeper {self._run}")
        self._releases.callback(self._release, keeper, database)
        # Before any schema is created: one whose run has no lock looks stale to the others.
        schemas.lock_run(keeper, self._run)
        self._keepers[database] = keeper

    def _release(self, keeper: Connection, database: str) -> None:
        with ExitStack() as releases:
            releases.callback(keeper.close)
            if not self._owned:
                releases.callback(self._leave, keeper, database)
                releases.callback(schemas.drop_of_run, keeper, self._run)

    def _leave(self, keeper: Connection, database: str) -> None:
        """Drop what itkit has created for all runs, unless another one is in this database."""
        with self._alone() as maintenance:
            if schemas.other_runs_alive(keeper):
                return
            extensions.drop(keeper)
            keeper.close()
            if _is_ours(maintenance, database):
                _drop(maintenance, database)

    @contextmanager
    def _failures_explained(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.OperationalError, psycopg.InternalError) as error:
            advice = (
                " If the cluster that it was copied from is damaged, remove the cache: CACHE_DIR in"
                " ITKIT, by default itkit in the user's cache directory, /var/cache/itkit for root."
            )
            raise ServiceUnavailableError(
                f"Postgres at {self._server.address} cannot be used: {str(error).strip()}."
                f"{advice if self._owned else ''}"
            ) from error

    @contextmanager
    def _alone(self) -> Iterator[Connection]:
        """Connect to the server and keep other runs from entering or leaving a database."""
        with connect_to_server(str(self._server)) as maintenance, schemas.alone(maintenance):
            yield maintenance

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


def _exists(connection: Connection, name: str) -> bool:
    return bool(value(connection, "SELECT true FROM pg_database WHERE datname = %s", [name]))


def _may_create_schemas(connection: Connection, database: str) -> bool:
    query = (
        "SELECT has_database_privilege(oid, 'CREATE') AND has_database_privilege(oid, 'CONNECT')"
        " FROM pg_database WHERE datname = %s"
    )
    return bool(value(connection, query, [database]))


def _may_create_databases(connection: Connection) -> bool:
    query = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
    return bool(value(connection, query))


def _create(connection: Connection, name: str, suffix: str) -> None:
    """Create a database and mark it as ours."""
    database = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE DATABASE {} " + suffix).format(database))
    connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, _COMMENT))


def _drop(connection: Connection, name: str) -> None:
    """Drop a database, unless somebody is in it who is no run of itkit's."""
    with suppress(psycopg.errors.ObjectInUse):
        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def _is_ours(connection: Connection, database: str) -> bool:
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    return bool(value(connection, query, [database]) == _COMMENT)
