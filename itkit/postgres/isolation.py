"""The two ways to keep workers apart: a schema each, in one database, or a database each.

``ITKIT["POSTGRES"]["ISOLATION"]`` chooses. All that differs between them is here or in what is made
here; ``run``, ``routing`` and ``creation`` know only of places, whose registry, templates and
connections the isolation provides. The *home* of an alias is the database that our own connections
go to: the one with the schemas, or the server's maintenance database.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

import psycopg
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from itkit import conf, names
from itkit.exceptions import IsolationError
from itkit.postgres import (
    database_template,
    databases,
    extensions,
    fingerprint,
    locks,
    roles,
    schema_template,
    seeds,
    watch,
)
from itkit.postgres.database_template import DatabaseTemplate
from itkit.postgres.databases import Databases
from itkit.postgres.places import Places
from itkit.postgres.reset import Reset
from itkit.postgres.schema_template import SchemaTemplate
from itkit.postgres.schemas import Schemas
from itkit.postgres.server import (
    Connection,
    connect,
    connect_to_server,
    postgres_aliases,
    product,
)
from itkit.postgres.sessions import Sessions
from itkit.postgres.template import Template
from itkit.urls import POSTGRES_SCHEMES, ServerURL, parse

PROJECT_ROLE: Final = "project"
"""The value of ``ITKIT["POSTGRES"]["ROLE"]`` by which no worker has a role of its own."""

_PUBLIC: Final = "public"


class Isolation(ABC):
    """What differs between schemas and databases.

    Args:
        is_alone: whether nobody but this project uses the server, which itkit has started.
        secret: of the run, if each worker logs in by a role of its own.

    Attributes:
        secret: as above; a run knows it only when it has seen the server.
        reach: what the role of a worker may use.
        wider: what a project sets whose tests need more than that; empty where nothing helps.
        without_roles: what keeps the tests apart where no worker has a role of its own.
    """

    reach: ClassVar[str]
    wider: ClassVar[str] = ""
    without_roles: ClassVar[str]

    def __init__(self, *, is_alone: bool = False, secret: str = "") -> None:
        self._is_alone = is_alone
        self.secret = secret

    @abstractmethod
    def require(self, maintenance: Connection, alias: str, server: ServerURL) -> None:
        """Make sure that ``home`` finds or creates one, without creating anything.

        Raises:
            IsolationError: the role may do neither, or only in the project's own database, which
                nobody has allowed. The first line says why, each other one what helps.
        """

    @abstractmethod
    def home(self, maintenance: Connection, alias: str, server: ServerURL) -> str:
        """Find or create the database that our own connections for an alias go to.

        Raises:
            IsolationError: as ``require``, or the server refuses to create it all the same.
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
    def options(self, places: Iterable[str]) -> str:
        """Return the startup options that take a client of libpq to one of some places.

        Args:
            places: names of those of one worker; where a database has several, the first is meant.
        """

    @abstractmethod
    def prepare(self, connection: Connection) -> None:
        """Provide what migrations need beside their place."""

    @abstractmethod
    def watched(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        """Return what stops migrations, for a block, that write outside of their place.

        Args:
            connection: Django's, in that place.
        """

    @abstractmethod
    def after_migrating(self, home: str, name: str) -> None:
        """Put beside what a template's migrations have made what its clones' resets need."""

    def is_foreign(self, home: str) -> bool:
        """Whether a home, by its URL, is a database with data that is not the tests'."""
        del home
        return False

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
        role = options.role if self.secret else PROJECT_ROLE
        salt = "" if options.keep else run
        state = fingerprint.of_state(project, connection, role=role, salt=salt)
        return self._template(connection, state, run, is_private=not options.keep)


class SchemaIsolation(Isolation):
    """A schema for each worker, in a database of itkit's own.

    A role that may not create databases needs ``CREATE`` on one that is there, and the word of the
    user that schemas of tests may go there: a URL that names a database for tests, or the setting
    ``IN_PROJECT_DATABASE``. One statement that names ``public`` would reach foreign data there.
    """

    reach = "the worker's own schema and itkit_ext"
    wider = '; one that needs several schemas sets ITKIT = {"POSTGRES": {"ISOLATION": "database"}}'
    without_roles = "only the search_path keeps the tests in their schemas"

    def require(self, maintenance: Connection, alias: str, server: ServerURL) -> None:
        """Make sure that there is a database, or may be."""
        name = self.own_database(alias, maintenance.info.user)
        if not (databases.may_create(maintenance) or _is_usable(maintenance, name)):
            self._foreign_database(maintenance, alias, server)

    def home(self, maintenance: Connection, alias: str, server: ServerURL) -> str:
        """Return the database of itkit's own, or else the one that the user allows."""
        name = self.own_database(alias, maintenance.info.user)
        databases.adopt(maintenance, name)
        if _is_usable(maintenance, name):
            return name
        if not databases.may_create(maintenance):
            return self._foreign_database(maintenance, alias, server)
        if databases.exists(maintenance, name):
            raise IsolationError(
                f"The database {name!r} on {server.address} has the name of itkit's own, but is"
                " not registered as such. Look at what is in it, and drop or rename it."
            )
        try:
            suffix = _primary(alias).creation.sql_table_creation_suffix()
            databases.create_for_schemas(maintenance, name, suffix)
        except psycopg.Error as error:
            raise IsolationError(
                f"The database {name!r} for the schemas of the tests could not be created on"
                f" {server.address}: {str(error).strip()}"
            ) from error
        return name

    def own_database(self, alias: str, user: str) -> str:
        """Return the name of the database that itkit creates for an alias.

        Args:
            alias: of ``DATABASES``.
            user: the role that owns it.
        """
        connection = _primary(alias)
        test_name: str = connection.creation._get_test_db_name()  # type: ignore[attr-defined]  # not in the stubs
        name = str(connection.settings_dict["NAME"] or "")
        owner = () if self._is_alone else (_project_directory(), user)
        return names.database(name, test_name, *owner)

    def _foreign_database(self, maintenance: Connection, alias: str, server: ServerURL) -> str:
        """Return a database that is not itkit's own, where the user allows to use it."""
        user, own = maintenance.info.user, str(connections[alias].settings_dict["NAME"] or "")
        name = server.name or own
        is_for_tests = bool(
            conf.get().postgres.url and server.name and server.name not in _project_databases()
        )
        if not is_for_tests and not conf.get().postgres.in_project_database:
            raise IsolationError(
                f"the role {user!r} may not create a database, and itkit does not put the schemas"
                f" of tests into the project's own, {name!r}, unasked\n"
                f'ALTER ROLE "{user}" CREATEDB; which an administrator runs, so that the tests have'
                " a database of their own\n"
                "ITKIT_POSTGRES_URL=postgresql://…, which names an empty database for tests that"
                f" {user!r} may create schemas in\n"
                'ITKIT = {"POSTGRES": {"IN_PROJECT_DATABASE": True}}, so that the schemas go into'
                f" {name!r}: a test that names another schema than its own reaches your data there"
            )
        if not databases.may_create_schemas(maintenance, name):
            raise IsolationError(
                f"the role {user!r} may neither create a database nor schemas in {name!r}\n"
                f'ALTER ROLE "{user}" CREATEDB; which an administrator runs\n'
                f'GRANT CREATE ON DATABASE "{name}" TO "{user}"; which an administrator runs'
            )
        return name

    def places(self, connection: Connection) -> Places:
        """Return the schemas of the home."""
        return Schemas(connection, self.secret)

    def templates(self, connection: Connection) -> list[Template]:
        """Return the templates in the home."""
        return schema_template.templates(connection)

    def landing(self, home: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return a search_path by the startup options: ``SET`` would end with a rollback."""
        # The last -c wins, so a search_path of the project's own gives way to ours.
        startup = f"{options.get('options', '')} {self.options([name])}".strip()
        database = parse(home, POSTGRES_SCHEMES).name
        return {"NAME": database, "OPTIONS": {**options, "options": startup}}

    def options(self, places: Iterable[str]) -> str:
        """Return the search_path."""
        return f"-c search_path={','.join([*dict.fromkeys(places), names.EXTENSION_SCHEMA])}"

    def prepare(self, connection: Connection) -> None:
        """Create the extensions, outside of the schemas that come and go."""
        extensions.prepare_for_project(connection)
        if self.secret and databases.is_ours(connection, connection.info.dbname):
            roles.shut_public(connection)

    def watched(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        """Stop migrations that write into another schema, or leave another search_path."""
        return watch.watched(connection)

    def after_migrating(self, home: str, name: str) -> None:
        """Do nothing: the template's own rows are at hand."""

    def is_foreign(self, home: str) -> bool:
        """Whether a home, by its URL, is not a database of itkit's own."""
        return not names.is_database(parse(home, POSTGRES_SCHEMES).name)

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
        return SchemaTemplate(connection, state, run, is_private=is_private, secret=self.secret)


class DatabaseIsolation(Isolation):
    """A database for each worker, with its own ``public``; it needs ``CREATEDB``.

    Args:
        server: that has the databases.
        is_alone: whether nobody but this project uses the server, which itkit has started.
        secret: of the run, if each worker logs in by a role of its own.
    """

    reach = "the worker's own database"
    without_roles = "only NAME keeps the tests in their databases"

    def __init__(self, server: ServerURL, *, is_alone: bool = False, secret: str = "") -> None:
        super().__init__(is_alone=is_alone, secret=secret)
        self._server = server

    def require(self, maintenance: Connection, alias: str, server: ServerURL) -> None:
        """Make sure that the role may create databases."""
        del alias, server
        if not databases.may_create(maintenance):
            user = maintenance.info.user
            raise IsolationError(
                f'ITKIT["POSTGRES"]["ISOLATION"] is "database", and the role {user!r} may not'
                " create databases\n"
                f'ALTER ROLE "{user}" CREATEDB; which an administrator runs\n'
                'ITKIT = {"POSTGRES": {"ISOLATION": "schema"}}'
            )

    def home(self, maintenance: Connection, alias: str, server: ServerURL) -> str:
        """Return the maintenance database."""
        self.require(maintenance, alias, server)
        return maintenance.info.dbname

    def places(self, connection: Connection) -> Places:
        """Return the databases of the server."""
        return Databases(connection, self._server, self.secret)

    def templates(self, connection: Connection) -> list[Template]:
        """Return the templates on the server."""
        return database_template.templates(connection, self._server)

    def landing(self, home: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return another ``NAME``: the search_path is the project's own."""
        del home
        return {"NAME": name, "OPTIONS": dict(options)}

    def options(self, places: Iterable[str]) -> str:
        """Return none: ``NAME`` says it all."""
        del places
        return ""

    def prepare(self, connection: Connection) -> None:
        """Leave the server's own databases to our own role, if nobody else uses the server.

        Each database has its own extensions, which its migrations create.
        """
        if self.secret and self._is_alone:
            databases.shut_others(connection)

    def watched(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        """Stop none: all schemas of the database are the place."""
        del connection
        return nullcontext()

    def after_migrating(self, home: str, name: str) -> None:
        """Keep the seeds in the database itself, as no other can be read from it."""
        with closing(connect(_in(home, name), application="itkit setup")) as connection:
            seeds.keep_database(connection)

    def reset(
        self, home: str, name: str, template: str, application: str, sessions: Sessions
    ) -> Reset:
        """Return what resets all schemas of a database."""
        del template
        return Reset(
            _in(home, name),
            schema=_PUBLIC,
            seeds=names.SEEDS_SCHEMA,
            application=application,
            sessions=sessions,
            is_whole=True,
        )

    def leave(self, maintenance: Connection, keeper: Connection) -> None:
        """Do nothing: a maintenance database is nobody's."""

    def _template(
        self, connection: Connection, state: str, run: str, *, is_private: bool
    ) -> Template:
        return DatabaseTemplate(
            connection, self._server, state, run, is_private=is_private, secret=self.secret
        )


def isolation(server: str, *, is_alone: bool = False, secret: str = "") -> Isolation:
    """Return the kind of isolation that the settings ask for.

    Args:
        server: URL of any database of the server.
        is_alone: whether nobody but this project uses the server, which itkit has started.
        secret: of the run, if each worker logs in by a role of its own.
    """
    if conf.get().postgres.isolation == "database":
        url = parse(server, POSTGRES_SCHEMES)
        return DatabaseIsolation(url, is_alone=is_alone, secret=secret)
    return SchemaIsolation(is_alone=is_alone, secret=secret)


def probe_for_tests(url: str, timeout: float) -> str:
    """Return the server's name and version, where tests of this project can run on it.

    Args:
        url: any database of the server; it need not exist yet.
        timeout: seconds to wait for an answer.

    Raises:
        psycopg.OperationalError: no answer, or the role may not connect.
        IsolationError: there is no database for the tests, and none may be created. The first line
            says why, each other one what helps.
    """
    server = parse(url, POSTGRES_SCHEMES)
    chosen = isolation(url)
    with connect_to_server(url, timeout=timeout) as maintenance:
        for alias in postgres_aliases():
            chosen.require(maintenance, alias, server)
        return product(maintenance)


def _is_usable(maintenance: Connection, name: str) -> bool:
    is_ours = databases.is_ours(maintenance, name)
    return is_ours and databases.may_create_schemas(maintenance, name)


def _primary(alias: str) -> BaseDatabaseWrapper:
    """Return the connection of an alias, or of the one that it mirrors."""
    return connections[connections[alias].settings_dict["TEST"]["MIRROR"] or alias]


def _project_databases() -> set[str]:
    """Return the databases of the project itself, which are not for tests."""
    return {str(connections[alias].settings_dict["NAME"]) for alias in postgres_aliases()}


def _project_directory() -> str:
    """Return what tells this project from another that uses the same ``NAME`` on one server."""
    module = sys.modules.get(getattr(settings, "SETTINGS_MODULE", None) or "")
    file = getattr(module, "__file__", None)
    return str(Path(file).resolve().parent if file else Path.cwd())


def _in(home: str, database: str) -> str:
    return str(replace(parse(home, POSTGRES_SCHEMES), name=database))
