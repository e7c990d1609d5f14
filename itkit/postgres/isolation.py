"""The two ways to keep workers apart: a schema each, in one database, or a database each.

``ITKIT["POSTGRES"]["ISOLATION"]`` chooses. All that differs between them is here or in what is made
here; ``run``, ``routing`` and ``creation`` know only of places, whose registry, templates and
connections the isolation provides. The *home* of an alias is the database that our own connections
go to: the one with the schemas, or the server's maintenance database.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any, Final

from django.db import connections
from psycopg import sql

from itkit import conf, names
from itkit.exceptions import IsolationError
from itkit.postgres import (
    database_template,
    databases,
    extensions,
    fingerprint,
    locks,
    schema_template,
    seeds,
)
from itkit.postgres.database_template import DatabaseTemplate
from itkit.postgres.databases import Databases
from itkit.postgres.places import Places
from itkit.postgres.reset import Reset
from itkit.postgres.schema_template import SchemaTemplate
from itkit.postgres.schemas import Schemas
from itkit.postgres.server import Connection, connect
from itkit.postgres.sessions import Sessions
from itkit.postgres.template import Template
from itkit.urls import POSTGRES_SCHEMES, ServerURL, parse

_PUBLIC: Final = "public"


class Isolation(ABC):
    """What differs between schemas and databases."""

    @abstractmethod
    def home(self, maintenance: Connection, alias: str, server: ServerURL) -> str:
        """Find or create the database that our own connections for an alias go to.

        Raises:
            IsolationError: the role may do neither.
        """

    @abstractmethod
    def places(self, connection: Connection) -> Places:
        """Return the registry of what is ours, by a connection to a home."""

    @abstractmethod
    def templates(self, connection: Connection) -> list[Template]:
        """Return all templates that stay for later runs."""

    @abstractmethod
    def landing(self, home: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that take a connection of Django's to a place.

        Args:
            home: URL.
            name: of the place.
            options: ``OPTIONS`` as the project has them.
        """

    @abstractmethod
    def prepare(self, connection: Connection) -> None:
        """Provide what migrations need beside their place."""

    @abstractmethod
    def after_migrating(self, home: str, name: str) -> None:
        """Put beside what a template's migrations have made what its clones' resets need."""

    @abstractmethod
    def reset(
        self, home: str, name: str, template: str, application: str, sessions: Sessions
    ) -> Reset:
        """Return what resets a place.

        Args:
            home: URL.
            name: of the place.
            template: the place that it is a clone of, or that holds its seeds.
            application: name of the connections of the worker's tests.
            sessions: who has opened these.
        """

    @abstractmethod
    def leave(self, maintenance: Connection, keeper: Connection) -> None:
        """Drop what all runs have shared in a home that nobody uses any more.

        Args:
            maintenance: to the server's maintenance database, with the lock of the set-up there.
            keeper: to the home; it is closed where the home may be dropped.
        """

    @abstractmethod
    def _template(
        self, connection: Connection, state: str, run: str, *, is_private: bool
    ) -> Template: ...

    def template_of(
        self, connection: Connection, alias: str, run: str, *, migrate: bool
    ) -> Template:
        """Return the template of what the project's files are now.

        Args:
            connection: to the alias' home.
            alias: of ``DATABASES``.
            run: id of the run that asks.
            migrate: whether the runner was not told to do without migrations.
        """
        options = conf.get().postgres
        project = fingerprint.of_project(alias, seed_files=options.seed_files, migrate=migrate)
        state = fingerprint.of_state(project, connection, salt="" if options.keep else run)
        return self._template(connection, state, run, is_private=not options.keep)


class SchemaIsolation(Isolation):
    """A schema for each worker; it needs no right but ``CREATE`` on one database."""

    def home(self, maintenance: Connection, alias: str, server: ServerURL) -> str:
        """Return Django's test database, or else ``NAME``."""
        creation = connections[connections[alias].settings_dict["TEST"]["MIRROR"] or alias].creation
        name: str = creation._get_test_db_name()  # type: ignore[attr-defined]  # not in the stubs
        if databases.may_create_schemas(maintenance, name):
            return name
        if not databases.exists(maintenance, name) and databases.may_create(maintenance):
            databases.create_for_schemas(maintenance, name, creation.sql_table_creation_suffix())
            return name
        fallback = server.name or str(connections[alias].settings_dict["NAME"])
        if databases.may_create_schemas(maintenance, fallback):
            return fallback
        user = maintenance.info.user
        raise IsolationError(
            f"The role {user!r} may neither create the database {name!r} nor schemas in"
            f" {fallback!r} on {server.address}. Let an administrator run one of:"
            f' GRANT CREATE ON DATABASE "{fallback}" TO "{user}"; or ALTER ROLE "{user}" CREATEDB;'
        )

    def places(self, connection: Connection) -> Places:
        """Return the schemas of the home."""
        return Schemas(connection)

    def templates(self, connection: Connection) -> list[Template]:
        """Return the templates in the home."""
        return schema_template.templates(connection)

    def landing(self, home: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return a search_path by the startup options: ``SET`` would end with a rollback."""
        path = f"{name},{names.EXTENSION_SCHEMA}"
        # The last -c wins, so a search_path of the project's own gives way to ours.
        startup = f"{options.get('options', '')} -c search_path={path}".strip()
        database = parse(home, POSTGRES_SCHEMES).name
        return {"NAME": database, "OPTIONS": {**options, "options": startup}}

    def prepare(self, connection: Connection) -> None:
        """Create the extensions, outside of the schemas that come and go."""
        extensions.prepare_for_project(connection)

    def after_migrating(self, home: str, name: str) -> None:
        """Do nothing: the template's own rows are at hand."""

    def reset(
        self, home: str, name: str, template: str, application: str, sessions: Sessions
    ) -> Reset:
        """Return what resets a schema."""
        return Reset(home, schema=name, seeds=template, application=application, sessions=sessions)

    def leave(self, maintenance: Connection, keeper: Connection) -> None:
        """Drop the extensions, and the database if it is ours."""
        name = keeper.info.dbname
        # The lock that is held already is that of the maintenance database.
        is_held = name == maintenance.info.dbname
        with nullcontext() if is_held else locks.setup(keeper):
            extensions.drop(keeper)
        keeper.close()
        if databases.is_ours(maintenance, name):
            databases.drop_if_unused(maintenance, name)

    def _template(
        self, connection: Connection, state: str, run: str, *, is_private: bool
    ) -> Template:
        return SchemaTemplate(connection, state, run, is_private=is_private)


class DatabaseIsolation(Isolation):
    """A database for each worker, with its own ``public``; it needs ``CREATEDB``."""

    def __init__(self, server: ServerURL) -> None:
        self._server = server

    def home(self, maintenance: Connection, alias: str, server: ServerURL) -> str:
        """Return the maintenance database."""
        del alias
        if not databases.may_create(maintenance):
            user = maintenance.info.user
            raise IsolationError(
                f'ITKIT["POSTGRES"]["ISOLATION"] is "database", but the role {user!r} may not'
                f" create databases on {server.address}. Let an administrator run"
                f' ALTER ROLE "{user}" CREATEDB; or set ISOLATION to "schema".'
            )
        return maintenance.info.dbname

    def places(self, connection: Connection) -> Places:
        """Return the databases of the server."""
        return Databases(connection)

    def templates(self, connection: Connection) -> list[Template]:
        """Return the templates on the server."""
        return database_template.templates(connection, str(self._server))

    def landing(self, home: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return another ``NAME``: the search_path is the project's own."""
        del home
        return {"NAME": name, "OPTIONS": dict(options)}

    def prepare(self, connection: Connection) -> None:
        """Do nothing: each database has its own extensions."""

    def after_migrating(self, home: str, name: str) -> None:
        """Keep the seeds in the database itself, as no other can be read from it."""
        with closing(connect(_in(home, name), application="itkit setup")) as connection:
            schema = sql.Identifier(names.SEEDS_SCHEMA)
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            seeds.keep(connection, _PUBLIC, names.SEEDS_SCHEMA)

    def reset(
        self, home: str, name: str, template: str, application: str, sessions: Sessions
    ) -> Reset:
        """Return what resets the schema ``public`` of a database."""
        del template
        return Reset(
            _in(home, name),
            schema=_PUBLIC,
            seeds=names.SEEDS_SCHEMA,
            application=application,
            sessions=sessions,
        )

    def leave(self, maintenance: Connection, keeper: Connection) -> None:
        """Do nothing: a maintenance database is nobody's."""

    def _template(
        self, connection: Connection, state: str, run: str, *, is_private: bool
    ) -> Template:
        return DatabaseTemplate(connection, str(self._server), state, run, is_private=is_private)


def isolation(server: str) -> Isolation:
    """Return the kind of isolation that the settings ask for.

    Args:
        server: URL of any database of the server.
    """
    if conf.get().postgres.isolation == "database":
        return DatabaseIsolation(parse(server, POSTGRES_SCHEMES))
    return SchemaIsolation()


def _in(home: str, database: str) -> str:
    return str(replace(parse(home, POSTGRES_SCHEMES), name=database))
