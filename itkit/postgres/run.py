"""The databases of one run: found or created at its start, and cleaned up at its end."""

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final

from django.db import connections

from itkit import conf
from itkit.core.text import listed
from itkit.core.urls import POSTGRES_SCHEMES, parse
from itkit.exceptions import EscapeError, IsolationError, ServiceUnavailableError
from itkit.postgres.isolation import PROJECT_ROLE, DatabaseIsolation, isolation
from itkit.postgres.migrations import requirements
from itkit.postgres.server import databases, driver, locks, outside, places, roles
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.outside import Sight
from itkit.postgres.server.server import (
    answers,
    connect,
    connect_to_server,
    postgres_aliases,
    value,
)
from itkit.postgres.template.template import drop_unused, evict

_PATIENCE: Final = 2.0
_POLL: Final = 0.02
_COLLECTED: Final = 0.6
_ATTEMPTS: Final = 5


class RunDatabases:
    """Prepares a home for each Postgres alias of ``DATABASES``, and cleans it up at the end.

    Args:
        server: URL of the server. The database in it is used if the role may not create one and the
            user allows it.
        run: id of the run.
        owned: whether the server is thrown away, so that no clean-up is needed.

    Attributes:
        secret: the source of the passwords of the workers' roles; empty until ``start``, and if the
            tests log in by the project's own role.
        notes: the parts of the start line about the databases.
        database: the database that the schemas of the first alias are in, or the server's own.
        to_migrate: the aliases whose migrations have to run, as no earlier run has left a template.
        changed: the values that migrations have read for an earlier run and that differ now.
    """

    def __init__(self, server: str, run: str, *, owned: bool) -> None:
        self._server = parse(server, POSTGRES_SCHEMES)
        self._run = run
        self._owned = owned
        self._isolation = isolation(server, is_alone=owned)
        self.secret = ""
        self.notes: list[str] = []
        self.database = ""
        self.to_migrate: list[str] = []
        self.changed: list[str] = []
        self._keepers: dict[str, Connection] = {}
        self._foreign: list[Sight] = []
        self._own: dict[Connection, Sight] = {}
        self._left_outside: list[str] = []
        self._releases = ExitStack()

    def start(self, *, migrate: bool = True, rebuild: bool = False) -> dict[str, str]:
        """Prepare the homes of the aliases and return the URL of each.

        Args:
            migrate: whether to run migrations; False with an option such as ``--nomigrations``.
            rebuild: whether to make existing templates anew.

        Raises:
            ConfigurationError: a seed file does not exist.
            IsolationError: the role may neither create a database nor a schema in one.
            ServiceUnavailableError: the server lacks an extension that a migration creates.
        """
        with ExitStack() as undo:
            undo.enter_context(self._failures_explained())
            undo.push(self._releases.__exit__)
            entered = self._enter_all()
            if self._has_roles():
                self.secret = self._isolation.secret = secrets.token_hex(16)
            if not self._owned:
                for keeper in self._keepers.values():
                    self._isolation.places(keeper).drop_stale()
            for alias, name in entered.items():
                self._prepare(alias, self._keepers[name], migrate=migrate, rebuild=rebuild)
                self._isolation.look(self._keepers[name])
            self.database = next(iter(entered.values()), "")
            self._own = {keeper: Sight(keeper) for keeper in self._keepers_of_own_databases()}
            undo.pop_all()
        return {alias: self._url(name) for alias, name in entered.items()}

    @property
    def beside(self) -> list[str]:
        """The schemas of extensions on the search_path of the tests."""
        return self._isolation.beside

    def keeper(self, home: str) -> Connection | None:
        """Return the connection that holds a home for the run; None if its session has ended.

        Args:
            home: URL.
        """
        found = self._keepers.get(parse(home, POSTGRES_SCHEMES).name)
        return found if found is not None and answers(found) else None

    def _has_roles(self) -> bool:
        """Return whether each worker logs in by a role of its own.

        Raises:
            IsolationError: the settings require roles, and they are not possible.
        """
        wanted = conf.get().postgres.role
        if wanted == PROJECT_ROLE:
            return False
        reason = next(filter(None, map(self._why_no_roles, self._keepers.items())), None)
        if reason is None:
            return bool(self._keepers)
        if wanted == "worker":
            raise IsolationError(
                f'ITKIT["POSTGRES"]["ROLE"] is "worker", and {reason}\n'
                f'ALTER ROLE "{self._server.user}" CREATEROLE; which an administrator runs\n'
                'ITKIT = {"POSTGRES": {"ROLE": "auto"}}: then'
                f" {self._isolation.without_roles} here"
            )
        self.notes.append(f"{reason}: {self._isolation.without_roles}")
        return False

    def _why_no_roles(self, entered: tuple[str, Connection]) -> str | None:
        """Return why no worker can have a role of its own in a database; None if each can."""
        name, keeper = entered
        return None if self._owned else roles.why_not(keeper, self._url(name), self._run)

    def _url(self, database: str) -> str:
        return str(replace(self._server, name=database))

    def check_outside(self) -> None:
        """Check that the run has not written outside of itkit's schemas in a foreign database.

        Raises:
            EscapeError: the run has written outside. If one test did it, that test has failed
                already.
        """
        for sight in self._foreign:
            self._wait_for_counters(sight.connection)
            if found := sight.changes():
                raise EscapeError(outside.explained("The run", sight.connection, found))

    def _wait_for_counters(self, connection: Connection) -> None:
        """Wait until the sessions of the tests have reported their counters."""
        deadline = time.monotonic() + _PATIENCE
        query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE %s)"
        sessions = places.application_name(self._run, "%")
        while value(connection, query, [sessions]) and time.monotonic() < deadline:
            time.sleep(_POLL)  # the end of a session is no event that others can wait for
        if connection.info.server_version < outside.HANDED_ON_AT_ONCE:
            time.sleep(_COLLECTED)  # a separate process collects them from datagrams

    def stop(self) -> None:
        """Drop the run's schemas and, after the last run, all that itkit has created for all runs.

        Raises:
            ServiceUnavailableError: the server did not answer; the next run drops the rest.
            IsolationError: tests have written outside of their schemas, in a database of itkit's
                own, which is dropped.
        """
        try:
            self._releases.close()
        except driver.OperationalError as error:
            raise ServiceUnavailableError(
                f"The schemas of this run could not be dropped from {self._server.address}; the"
                f" next run with --integration will do so. {str(error).strip()}"
            ) from error
        if self._left_outside:
            raise IsolationError(
                "Tests have written outside of their schemas, in the database that itkit has for"
                f" them:\n{listed(self._left_outside, most=outside.SHOWN)}\nAll that itkit has kept"
                f" there was dropped, so that the next run does not begin with it. {outside.REMEDY}"
            )

    def _keepers_of_own_databases(self) -> list[Connection]:
        """Return the connections to itkit's own databases, in which nothing may be left outside."""
        if self._owned or isinstance(self._isolation, DatabaseIsolation):
            return []
        foreign = [sight.connection for sight in self._foreign]
        return [keeper for keeper in self._keepers.values() if keeper not in foreign]

    def _enter_all(self) -> dict[str, str]:
        """Find or create the database of each alias, and hold each until the end of the run."""
        with self._alone() as maintenance:
            return {alias: self._entered(maintenance, alias) for alias in postgres_aliases()}

    def _entered(self, maintenance: Connection, alias: str) -> str:
        """Find or create the database of an alias, and hold it; return its name.

        A run that has come by another maintenance database may be about to drop it meanwhile.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            name = self._isolation.home(maintenance, alias, self._server)
            try:
                if name not in self._keepers:
                    self._enter(name)
                break
            except driver.OperationalError:
                if attempt == _ATTEMPTS or databases.exists(maintenance, name):
                    raise
        return name

    def _enter(self, database: str) -> None:
        url = self._url(database)
        # With another application name than the tests' connections, which are ended at the end.
        keeper = connect(url, application=f"itkit keeper {self._run}")
        self._releases.callback(self._release, keeper)
        # Locked before any schema is created: without the lock, others take a schema for stale.
        locks.hold_run(keeper, self._run)
        if self._isolation.is_foreign(url):
            self._foreign.append(Sight(keeper))
        self._keepers[database] = keeper

    def _prepare(self, alias: str, keeper: Connection, *, migrate: bool, rebuild: bool) -> None:
        """Check before the tests that the database has what the migrations will need."""
        template = self._isolation.template_of(keeper, alias, self._run, migrate=migrate)
        if rebuild:
            template.rebuild()
        if not template.exists():
            self.to_migrate.append(alias)
            self.changed += template.changed
            if migrate and connections[alias].settings_dict["TEST"]["MIGRATE"]:
                requirements.require(keeper, alias)
            self._isolation.prepare(keeper, alias)

    def _release(self, keeper: Connection) -> None:
        with ExitStack() as releases:
            releases.callback(keeper.close)
            if not self._owned:
                releases.callback(self._leave, keeper)
                releases.callback(self._tidy_up, keeper)

    def _tidy_up(self, keeper: Connection) -> None:
        """Drop all of this run, and templates that are not likely to be used again."""
        self._isolation.places(keeper).drop_of_run(self._run)
        templates = self._isolation.templates(keeper)
        sight = self._own.get(keeper)
        left = sight.changes() if sight is not None else []
        if left:
            self._left_outside += left
            drop_unused(templates)
        else:
            evict(templates)

    def _leave(self, keeper: Connection) -> None:
        """Drop what itkit has created for all runs, unless a part of it is still in use."""
        with self._alone() as maintenance:
            in_use = locks.other_runs_alive(keeper) or self._isolation.places(keeper).ours()
            if not in_use:
                self._isolation.leave(maintenance, keeper)

    @contextmanager
    def _failures_explained(self) -> Iterator[None]:
        try:
            yield
        except (driver.OperationalError, driver.InternalError) as error:
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
        """Connect to the server, and keep other runs from starting or ending in a database."""
        with connect_to_server(str(self._server)) as maintenance, locks.setup(maintenance):
            yield maintenance
