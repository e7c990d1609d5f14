"""The two ways to keep workers apart: a schema each, in one database, or a database each.

``ITKIT["POSTGRES"]["ISOLATION"]`` chooses. All differences between the two are here, or in objects
that are made here. ``run``, ``routing`` and ``creation`` know only places, whose registry,
templates and connections the isolation provides. The *home* of an alias is the database that our
own connections go to: the one with the schemas, or the server's maintenance database.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from itkit import conf
from itkit.core import names
from itkit.core.urls import POSTGRES_SCHEMES, ServerURL, parse
from itkit.exceptions import IsolationError
from itkit.postgres.migrations import extensions, watch
from itkit.postgres.reset import initial_rows
from itkit.postgres.reset.reset import Reset
from itkit.postgres.server import databases, driver, locks, roles
from itkit.postgres.server.databases import Databases
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.places import Places
from itkit.postgres.server.server import connect, connect_to_server, postgres_aliases, product
from itkit.postgres.server.sessions import Sessions
from itkit.postgres.template import database_template, fingerprint, reads, schema_template
from itkit.postgres.template.database_template import DatabaseTemplate
from itkit.postgres.template.schema_template import SchemaTemplate
from itkit.postgres.template.schemas import Schemas
from itkit.postgres.template.template import Template

PROJECT_ROLE: Final = "project"
"""The value of ``ITKIT["POSTGRES"]["ROLE"]`` with which no worker has a role of its own."""

_PUBLIC: Final = "public"


class Isolation(ABC):
    """The differences between schemas and databases.

    Args:
        is_alone: whether nobody but this project uses the server, which itkit has started.
        secret: the secret of the run, if each worker logs in by a role of its own.

    Attributes:
        secret: the secret of the run, which is set when the run has examined the server.
        beside: the schemas of extensions that follow ``itkit_ext`` on the search_path.
        reach: the schemas or databases that the role of a worker may use, in words.
        wider: the setting for a project whose tests need more; empty where no setting helps.
        without_roles: the words that say what keeps tests apart if no worker has its own role.
    """

    reach: ClassVar[str]
    wider: ClassVar[str] = ""
    without_roles: ClassVar[str]

    def __init__(self, *, is_alone: bool = False, secret: str = "") -> None:
        self._is_alone = is_alone
        self.secret = secret
        self.beside: list[str] = []
        self._chosen: dict[str, tuple[str, tuple[str, ...]]] = {}  # by the base
        self._settled: set[str] = set()

    @abstractmethod
    def require(self, maintenance: Connection, alias: str, server: ServerURL) -> None:
        """Check that ``home`` will find or create a database, without creating one.

        Raises:
            IsolationError: the role may do neither, or only in the project's own database, which
                the user has not allowed. The first line is the reason, and each further line a
                remedy.
        """

    @abstractmethod
    def home(self, maintenance: Connection, alias: str, server: ServerURL) -> str:
        """Find or create the database that our own connections for an alias go to.

        Raises:
            IsolationError: for the reasons of ``require``, or because the server refuses to create
                the database.
        """

    @abstractmethod
    def places(self, connection: Connection, alias: str = "") -> Places:
        """Return the registry of our places, by a connection to a home.

        Args:
            connection: a connection to the home.
            alias: an alias of ``DATABASES``, if a place is created in which its migrations will
                run.
        """

    @abstractmethod
    def templates(self, connection: Connection) -> list[Template]:
        """Return all templates that stay for later runs."""

    @abstractmethod
    def connection_settings(
        self, home: str, name: str, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the settings with which Django connects to a place.

        Args:
            home: URL.
            name: the name of the place.
            options: the project's own ``OPTIONS``.
        """

    @abstractmethod
    def options(self, places: Iterable[str]) -> str:
        """Return the startup options with which a client of libpq connects to one of some places.

        Args:
            places: names of one worker's places; where a database has several, the first is meant.
        """

    @abstractmethod
    def prepare(self, connection: Connection, alias: str) -> None:
        """Provide what migrations need outside of their place."""

    def look(self, connection: Connection) -> None:
        """Look up the search_path of a home; do nothing if each place has its own.

        Args:
            connection: a connection to the home.
        """
        del connection

    def rewritten(
        self,
        connection: BaseDatabaseWrapper,
        own: Callable[[], AbstractContextManager[Connection]],
        statement: str,
    ) -> str:
        """Return a statement of a set-up or a test without what would change things of all workers.

        Args:
            connection: Django's connection, which is about to send the statement.
            own: returns a connection by the project's own role.
            statement: any SQL.
        """
        del connection, own
        return statement

    @abstractmethod
    def watched(
        self, connection: BaseDatabaseWrapper, own: Callable[[], AbstractContextManager[Connection]]
    ) -> AbstractContextManager[None]:
        """Return a context manager that stops migrations which write outside of their place.

        Args:
            connection: Django's connection to that place.
            own: returns a connection by the project's own role to the same database.
        """

    @abstractmethod
    def after_migrating(self, home: str, name: str) -> None:
        """Store what the resets of clones need, after the migrations of a template."""

    def is_foreign(self, home: str) -> bool:
        """Return whether a home, by its URL, is a database with other data than that of tests."""
        del home
        return False

    def reset(
        self,
        home: str,
        name: str,
        template: str,
        *,
        application: str,
        sessions: Sessions,
        renew: Callable[[], bool],
        note: Callable[[str, str], object],
        store: Callable[[], str],
    ) -> Reset:
        """Return the reset of a place.

        Args:
            home: URL.
            name: the name of the place.
            template: the place from which it was cloned, or that has its initial rows.
            application: name of the connections of the worker's tests.
            sessions: knows which lines have opened the sessions of the tests.
            renew: makes the place anew, as ``Reset`` describes.
            note: gets the changes of a test to the structure, as ``Reset`` describes.
            store: returns a schema for rows, as ``Reset`` describes.
        """
        return Reset(
            application=application,
            sessions=sessions,
            renew=renew,
            note=note,
            store=store,
            **self._reset_of(home, name, template),
        )

    @abstractmethod
    def _reset_of(self, home: str, name: str, template: str) -> dict[str, Any]:
        """Return the arguments of ``Reset`` that differ between schemas and databases."""

    def renew(self, connection: Connection, run: str, name: str) -> bool:
        """Drop a place of a run, and make it anew from its template.

        Args:
            connection: a connection to the home.
            run: id of the run.
            name: the name of the place, to which nobody is connected.

        Returns:
            Whether this was possible; if not, nothing has changed.
        """
        found = self.places(connection).registration(name)
        fingerprint = (
            names.fingerprint_of_schema(found.template) if found and found.template else None
        )
        if fingerprint is None:
            return False
        is_private = not conf.get().postgres.keep
        return self._template(connection, "", fingerprint, run, is_private=is_private).renew(name)

    @abstractmethod
    def leave(self, maintenance: Connection, keeper: Connection) -> None:
        """Drop what all runs have shared in a home that no run uses any more.

        Args:
            maintenance: a connection to the server's maintenance database, which holds the set-up
                lock there.
            keeper: a connection to the home; it is closed if the home may be dropped.
        """

    @abstractmethod
    def _template(
        self, connection: Connection, alias: str, state: str, run: str, *, is_private: bool
    ) -> Template: ...

    def template_of(
        self, connection: Connection, alias: str, run: str, *, migrate: bool
    ) -> Template:
        """Return the template for the present state of the project's files.

        Args:
            connection: a connection to the alias' home.
            alias: an alias of ``DATABASES``.
            run: id of the run that asks.
            migrate: whether to run migrations; False with an option such as ``--nomigrations``.
        """
        options = conf.get().postgres
        project = fingerprint.of_project(alias, seed_files=options.seed_files, migrate=migrate)
        role = options.role if self.secret else PROJECT_ROLE
        salt = "" if options.keep else run
        base = fingerprint.of_state(project, connection, role=role, salt=salt)
        if base not in self._chosen:
            known = {made.fingerprint: made.reads() for made in self.templates(connection)}
            chosen, found = reads.choose(base, known)
            self._chosen[base] = chosen, tuple(found)
        state, changed = self._chosen[base]
        template = self._template(connection, alias, state, run, is_private=not options.keep)
        template.base, template.changed = base, changed
        template.is_settled = base in self._settled
        return template

    def settle(self, template: Template, *, is_found: bool) -> None:
        """Use a template from now on, or choose another one if it does not fit.

        Args:
            template: the template from which a place was requested.
            is_found: whether it has provided one.
        """
        if is_found:
            self._settled.add(template.base)
        else:
            del self._chosen[template.base]


class SchemaIsolation(Isolation):
    """A schema for each worker, in a database of itkit's own.

    A role that may not create databases needs ``CREATE`` on an existing one, and the user's
    permission to put schemas of tests there: a URL that names a database for tests, or the setting
    ``IN_PROJECT_DATABASE``. There, a statement that names ``public`` would reach foreign data.
    """

    reach = "the worker's own schema and itkit_ext"
    wider = (
        "; one that needs several schemas, or writes to a table that an extension has made, such as"
        ' spatial_ref_sys, sets ITKIT = {"POSTGRES": {"ISOLATION": "database"}}, as the runs share'
        " that table otherwise"
    )
    without_roles = "only the search_path keeps the tests in their schemas"

    def require(self, maintenance: Connection, alias: str, server: ServerURL) -> None:
        """Check that the database exists or may be created."""
        name = self.own_database(alias, maintenance.info.user)
        if not (databases.may_create(maintenance) or _is_usable(maintenance, name)):
            self._foreign_database(maintenance, alias, server)

    def home(self, maintenance: Connection, alias: str, server: ServerURL) -> str:
        """Return itkit's own database, or else the one that the user allows."""
        name = self.own_database(alias, maintenance.info.user)
        databases.adopt(maintenance, name)
        if _is_usable(maintenance, name):
            return name
        if not databases.may_create(maintenance):
            return self._foreign_database(maintenance, alias, server)
        if databases.exists(maintenance, name):
            databases.adopt(maintenance, name)  # another run may have made it just now
            if _is_usable(maintenance, name):
                return name
            raise IsolationError(
                f"The database {name!r} on {server.address} has the name of itkit's own, but is"
                " not registered as such. Look at what is in it, and drop or rename it."
            )
        try:
            suffix = _creation_suffix(alias)
            databases.create_for_schemas(maintenance, name, suffix)
        except driver.Error as error:
            raise IsolationError(
                f"The database {name!r} for the schemas of the tests could not be created on"
                f" {server.address}: {str(error).strip()}"
            ) from error
        return name

    def own_database(self, alias: str, user: str) -> str:
        """Return the name of the database that itkit creates for an alias.

        Args:
            alias: an alias of ``DATABASES``.
            user: the role that owns it.
        """
        connection = _primary(alias)
        test_name: str = connection.creation._get_test_db_name()  # type: ignore[attr-defined]  # not in the stubs
        name = str(connection.settings_dict["NAME"] or "")
        owner = [] if self._is_alone else [_project_directory(), user]
        template = connection.settings_dict["TEST"].get("TEMPLATE")
        return names.database(name, test_name, *owner, *([template] if template else []))

    def _foreign_database(self, maintenance: Connection, alias: str, server: ServerURL) -> str:
        """Return a database that is not itkit's own, if the user allows its use."""
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
        if not databases.exists(maintenance, name):
            raise IsolationError(
                f"the role {user!r} may not create a database, and there is no {name!r}\n"
                f'CREATE DATABASE "{name}" OWNER "{user}"; which an administrator runs\n'
                f'ALTER ROLE "{user}" CREATEDB; which an administrator runs\n'
                f"the name of a database for tests that is there, instead of {name!r}"
            )
        if not databases.may_connect(maintenance, name):
            raise IsolationError(
                f"the role {user!r} may not create a database, nor connect to {name!r}\n"
                f'GRANT CONNECT, CREATE ON DATABASE "{name}" TO "{user}"; which an administrator'
                " runs\n"
                f'ALTER ROLE "{user}" CREATEDB; which an administrator runs'
            )
        if not databases.may_create_schemas(maintenance, name):
            raise IsolationError(
                f"the role {user!r} may neither create a database nor schemas in {name!r}\n"
                f'ALTER ROLE "{user}" CREATEDB; which an administrator runs\n'
                f'GRANT CREATE ON DATABASE "{name}" TO "{user}"; which an administrator runs'
            )
        return name

    def places(self, connection: Connection, alias: str = "") -> Places:
        """Return the schemas of the home."""
        del alias
        return Schemas(connection, self.secret)

    def templates(self, connection: Connection) -> list[Template]:
        """Return the templates in the home."""
        return schema_template.templates(connection)

    def connection_settings(
        self, home: str, name: str, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return a search_path by the startup options: ``SET`` would end with a rollback."""
        # The last -c wins, so ours overrides a search_path of the project's own.
        startup = f"{options.get('options', '')} {self.options([name])}".strip()
        database = parse(home, POSTGRES_SCHEMES).name
        return {"NAME": database, "OPTIONS": {**options, "options": startup}}

    def options(self, places: Iterable[str]) -> str:
        """Return the search_path."""
        path = [*dict.fromkeys(places), names.EXTENSION_SCHEMA, *self.beside]
        return f"-c search_path={','.join(path)}"

    def rewritten(
        self,
        connection: BaseDatabaseWrapper,
        own: Callable[[], AbstractContextManager[Connection]],
        statement: str,
    ) -> str:
        """Create extensions that are wanted unless they exist; keep those that nothing uses."""
        if not extensions.are_named(statement):
            return statement
        if extensions.are_wanted_unless_there(statement):
            with own() as privileged:
                extensions.provide(privileged, statement)
        with suppress(driver.Error):  # in a transaction that has failed, the statement fails too
            return extensions.rewritten(Connection(connection.connection), statement)
        return statement

    def look(self, connection: Connection) -> None:
        """Look up which extensions are not in ``itkit_ext``."""
        self.beside = list(dict.fromkeys([*self.beside, *extensions.schemas_beside(connection)]))

    def prepare(self, connection: Connection, alias: str) -> None:
        """Create the extensions, outside of the workers' schemas, which are dropped."""
        extensions.prepare_for_project(connection, alias)
        if self.secret and databases.is_ours(connection, connection.info.dbname):
            is_on_path = _PUBLIC in extensions.schemas_beside(connection)
            roles.shut_public(connection, is_on_path=is_on_path)

    def watched(
        self, connection: BaseDatabaseWrapper, own: Callable[[], AbstractContextManager[Connection]]
    ) -> AbstractContextManager[None]:
        """Stop migrations that write into another schema, or change the search_path for good."""
        return watch.watched(connection, own)

    def after_migrating(self, home: str, name: str) -> None:
        """Do nothing, as resets read the template's own rows."""

    def is_foreign(self, home: str) -> bool:
        """Return whether a home, by its URL, is not a database of itkit's own."""
        return not names.is_database(parse(home, POSTGRES_SCHEMES).name)

    def _reset_of(self, home: str, name: str, template: str) -> dict[str, Any]:
        return {"url": home, "schema": name, "initial": template, "beside": self.beside}

    def leave(self, maintenance: Connection, keeper: Connection) -> None:
        """Drop the extensions, and the database if it is ours."""
        name = keeper.info.dbname
        # The lock that is held already is in the maintenance database.
        is_held = name == maintenance.info.dbname
        with nullcontext() if is_held else locks.setup(keeper):
            extensions.drop(keeper)
        keeper.close()
        if databases.is_ours(maintenance, name):
            databases.drop_if_unused(maintenance, name)

    def _template(
        self, connection: Connection, alias: str, state: str, run: str, *, is_private: bool
    ) -> Template:
        del alias
        return SchemaTemplate(connection, state, run, is_private=is_private, secret=self.secret)


class DatabaseIsolation(Isolation):
    """A database for each worker, with its own ``public``; this needs ``CREATEDB``.

    Args:
        server: the server that has the databases.
        is_alone: whether nobody but this project uses the server, which itkit has started.
        secret: the secret of the run, if each worker logs in by a role of its own.
    """

    reach = "the worker's own database"
    without_roles = "only NAME keeps the tests in their databases"

    def __init__(self, server: ServerURL, *, is_alone: bool = False, secret: str = "") -> None:
        super().__init__(is_alone=is_alone, secret=secret)
        self._server = server

    def require(self, maintenance: Connection, alias: str, server: ServerURL) -> None:
        """Check that the role may create databases."""
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

    def places(self, connection: Connection, alias: str = "") -> Places:
        """Return the databases of the server."""
        return Databases(connection, self._server, self.secret, _creation_suffix(alias))

    def templates(self, connection: Connection) -> list[Template]:
        """Return the templates on the server."""
        return database_template.templates(connection, self._server)

    def connection_settings(
        self, home: str, name: str, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return another ``NAME``; the search_path stays the project's own."""
        del home
        return {"NAME": name, "OPTIONS": dict(options)}

    def options(self, places: Iterable[str]) -> str:
        """Return no options, as ``NAME`` is enough."""
        del places
        return ""

    def prepare(self, connection: Connection, alias: str) -> None:
        """Shut the server's own databases to the workers' roles, if nobody else uses the server.

        Each database has its own extensions, which its migrations create.
        """
        del alias
        if self.secret and self._is_alone:
            databases.shut_others(connection)

    def watched(
        self, connection: BaseDatabaseWrapper, own: Callable[[], AbstractContextManager[Connection]]
    ) -> AbstractContextManager[None]:
        """Stop no migration, as all schemas of the database belong to the place."""
        del connection, own
        return nullcontext()

    def after_migrating(self, home: str, name: str) -> None:
        """Keep the initial rows in the database itself, as it cannot read another database."""
        with closing(connect(_in(home, name), application="itkit setup")) as connection:
            initial_rows.keep_database(connection)

    def _reset_of(self, home: str, name: str, template: str) -> dict[str, Any]:
        del template
        initial = {"schema": _PUBLIC, "initial": names.KEPT_ROWS_SCHEMA, "is_whole": True}
        return {"url": _in(home, name), **initial}

    def leave(self, maintenance: Connection, keeper: Connection) -> None:
        """Do nothing, as a maintenance database does not belong to itkit."""

    def _template(
        self, connection: Connection, alias: str, state: str, run: str, *, is_private: bool
    ) -> Template:
        return DatabaseTemplate(
            connection,
            self._server,
            state,
            run,
            is_private=is_private,
            secret=self.secret,
            suffix=_creation_suffix(alias),
        )


def isolation(server: str, *, is_alone: bool = False, secret: str = "") -> Isolation:
    """Return the kind of isolation that the settings ask for.

    Args:
        server: URL of any database of the server.
        is_alone: whether nobody but this project uses the server, which itkit has started.
        secret: the secret of the run, if each worker logs in by a role of its own.
    """
    if conf.get().postgres.isolation == "database":
        url = parse(server, POSTGRES_SCHEMES)
        return DatabaseIsolation(url, is_alone=is_alone, secret=secret)
    return SchemaIsolation(is_alone=is_alone, secret=secret)


def probe_for_tests(url: str, timeout: float) -> str:
    """Return the server's name and version if tests of this project can run on it.

    Args:
        url: URL of any database of the server; it need not exist yet.
        timeout: seconds to wait for an answer.

    Raises:
        driver.OperationalError: the server does not answer, or the role may not connect.
        IsolationError: there is no database for the tests, and none may be created. The first line
            is the reason, and each further line a remedy.
    """
    server = parse(url, POSTGRES_SCHEMES)
    chosen = isolation(url)
    with connect_to_server(url, timeout=timeout) as maintenance:
        for alias in postgres_aliases():
            chosen.require(maintenance, alias, server)
        return product(maintenance)


def _creation_suffix(alias: str) -> str:
    """Return the end of Django's ``CREATE DATABASE`` for a test database: encoding and template."""
    return _primary(alias).creation.sql_table_creation_suffix() if alias else ""


def _is_usable(maintenance: Connection, name: str) -> bool:
    is_ours = databases.is_ours(maintenance, name)
    return is_ours and databases.may_create_schemas(maintenance, name)


def _primary(alias: str) -> BaseDatabaseWrapper:
    """Return the connection of an alias, or of the alias that it mirrors."""
    return connections[connections[alias].settings_dict["TEST"]["MIRROR"] or alias]


def _project_databases() -> set[str]:
    """Return the names of the project's own databases, which are not for tests."""
    return {str(connections[alias].settings_dict["NAME"]) for alias in postgres_aliases()}


def _project_directory() -> str:
    """Return the directory that distinguishes this project from others with the same ``NAME``."""
    module = sys.modules.get(getattr(settings, "SETTINGS_MODULE", None) or "")
    file = getattr(module, "__file__", None)
    return str(Path(file).resolve().parent if file else Path.cwd())


def _in(home: str, database: str) -> str:
    return str(replace(parse(home, POSTGRES_SCHEMES), name=database))
