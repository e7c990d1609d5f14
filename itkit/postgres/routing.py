"""Route Django's connections to our server and schema.

Everything is done to ``connection.settings_dict``, which all threads of the process share, and to
``connection.creation``, which both Django's runner and pytest-django ask to create, clone and
destroy test databases. So neither runner needs to be told anything.
"""

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.creation import BaseDatabaseCreation

from itkit import names
from itkit.postgres import reset, schemas
from itkit.postgres.server import Connection, connect
from itkit.urls import POSTGRES_SCHEMES, parse

_SERVER_OPTIONS = frozenset(
    {
        "service",
        "passfile",
        "hostaddr",
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "target_session_attrs",
    }
)
"""Options of a connection that say where and how to reach a server: ours has its own."""

_inherited: list[object] = []
"""What a forked process must not close, not even by collecting it as garbage."""


class Routing:
    """The Postgres aliases of one process, routed to the databases and schemas of a run.

    Args:
        databases: URL of the database of each alias.
        run: id of the run.
        worker: id of the worker whose schema is used.
        owned: whether the server is thrown away, so that no schema needs to be dropped.
    """

    def __init__(self, databases: Mapping[str, str], *, run: str, worker: str, owned: bool) -> None:
        self._databases = databases
        self.run = run
        self.worker = worker
        self.owned = owned
        self._original: dict[str, tuple[dict[str, Any], BaseDatabaseCreation]] = {}
        self._resets: dict[str, reset.Reset] = {}
        self._held: set[str] = set()
        self._process = os.getpid()

    def install(self) -> None:
        """Route all aliases; connections that are open are closed."""
        for alias in self._databases:
            connection = connections[alias]
            _close(connection)
            self._original[alias] = (copy.deepcopy(connection.settings_dict), connection.creation)
        for alias, url in self._databases.items():
            connection = connections[alias]
            connection.creation = _schema_creation(connection, self, url)
            connection.settings_dict.update(self.settings(alias, self.worker))

    def uninstall(self) -> None:
        """Give the aliases back what they had.

        A runner that has not destroyed its test database yet would destroy the project's own in
        its place, so an alias that it holds stays routed, to where nothing is any more.
        """
        for made in self._resets.values():
            made.close()
        while self._original:
            alias, (settings, creation) = self._original.popitem()
            connection = connections[alias]
            _close(connection)
            if alias not in self._held:
                connection.creation = creation
                connection.settings_dict.clear()
                connection.settings_dict.update(settings)

    def forget_connections(self) -> None:
        """Let a process that was just forked open connections of its own.

        Closing what it has inherited would end the sessions of its parent, whose sockets they are.
        """
        for alias in self._databases:
            _inherited.append(connections[alias].connection)
            connections[alias].connection = None
        _inherited.extend(self._resets.values())
        self._resets.clear()

    def hold(self, alias: str) -> None:
        """Note that a runner has created the test database of an alias."""
        self._held.add(alias)

    def let_go(self, alias: str) -> None:
        """Note that a runner is done with the test database of an alias."""
        self._held.discard(alias)

    @property
    def may_drop(self) -> bool:
        """Whether to drop schemas: not where all is thrown away, nor in a test's forked process."""
        return not self.owned and os.getpid() == self._process

    def settings(self, alias: str, worker: str) -> dict[str, Any]:
        """Return the settings that take an alias to a worker's schema; ``NAME`` is Django's."""
        server = parse(self._databases[alias], POSTGRES_SCHEMES)
        original, _ = self._original[alias]
        kept = {
            name: value
            for name, value in original["OPTIONS"].items()
            if name not in _SERVER_OPTIONS
        }
        path = f"{self.schema(alias, worker)},{names.EXTENSION_SCHEMA}"
        # The last -c wins, so a search_path of the project's own gives way to ours.
        startup = f"{kept.get('options', '')} -c search_path={path}".strip()
        ours = {"options": startup, "application_name": self.application_name(worker)}
        return {
            "HOST": server.host,
            "PORT": str(server.port or ""),
            "USER": server.user,
            "PASSWORD": server.password,
            "OPTIONS": {**kept, **server.options, **ours},
        }

    def schema(self, alias: str, worker: str) -> str:
        """Return the schema of an alias; a mirror and a second name of a database share one."""
        return names.schema(self.run, worker, self._primary(alias))

    def reset(self, alias: str) -> bool:
        """Take an alias' schema back to what migrations made of it; False if it is not ours."""
        if alias not in self._databases:
            return False
        schema = self.schema(alias, self.worker)
        if schema not in self._resets:
            self._resets[schema] = reset.Reset(
                self._databases[alias],
                schema=schema,
                application=self.application_name(self.worker),
            )
        self._resets[schema].run(connections[alias])
        return True

    def application_name(self, worker: str) -> str:
        """Return the ``application_name`` of the connections of a worker's tests."""
        return schemas.application_name(self.run, worker)

    def original_signature(self, alias: str) -> tuple[Any, ...]:
        """Return what told this alias' database from others before it was routed."""
        settings, _ = self._original[alias]
        test_name = settings["TEST"]["NAME"] or f"test_{settings['NAME']}"
        return (settings["HOST"], settings["PORT"], settings["ENGINE"], test_name)

    def _primary(self, alias: str) -> str:
        mirrored = self._original[alias][0]["TEST"]["MIRROR"]
        if mirrored:
            return str(mirrored)
        signature = self.original_signature(alias)
        return next(
            name
            for name, (settings, _) in self._original.items()
            if not settings["TEST"]["MIRROR"] and self.original_signature(name) == signature
        )


class _SchemaCreation(BaseDatabaseCreation):
    """Answers Django's questions about test databases with schemas of one database.

    It is mixed into the creation class that the connection has, so that what another backend
    (PostGIS, a third-party one) adds there stays.
    """

    routing: Routing
    url: str

    def _get_test_db_name(self) -> str:
        return parse(self.url, POSTGRES_SCHEMES).name

    def test_db_signature(self) -> tuple[Any, ...]:
        # Two aliases that were two databases must not become one by being routed to one server.
        return self.routing.original_signature(self.connection.alias)

    def set_as_test_mirror(self, primary_settings_dict: dict[str, Any]) -> None:
        routed = ("HOST", "PORT", "USER", "PASSWORD", "NAME", "OPTIONS")
        self.connection.settings_dict.update({key: primary_settings_dict[key] for key in routed})

    def create_test_db(self, *args: Any, **kwargs: Any) -> str:
        name = super().create_test_db(*args, **kwargs)
        with self._own_connection() as connection:
            reset.keep_seeds(connection, self._schema(), self.routing.run)
        self.routing.hold(self.connection.alias)
        return name

    def _create_test_db(self, verbosity: int, autoclobber: bool, keepdb: bool = False) -> str:  # noqa: FBT001, FBT002 - Django's signature
        del verbosity, autoclobber, keepdb  # a run's schema is always new
        _close(self.connection)
        with self._own_connection() as connection:
            schemas.create(connection, self._schema(), self.routing.run)
        return self._get_test_db_name()

    def _clone_test_db(self, suffix: str, verbosity: int, keepdb: bool = False) -> None:  # noqa: FBT001, FBT002 - Django's signature
        with self._as_worker(names.worker_id(suffix)):
            self.create_test_db(verbosity=0, autoclobber=True, keepdb=keepdb)

    def get_test_db_clone_settings(self, suffix: str) -> dict[str, Any]:
        routed = self.routing.settings(self.connection.alias, names.worker_id(suffix))
        return {**self.connection.settings_dict, **routed}

    def destroy_test_db(
        self,
        old_database_name: str | None = None,
        verbosity: int = 1,
        keepdb: bool = False,  # noqa: FBT001, FBT002 - Django's signature
        suffix: str | None = None,
    ) -> None:
        worker = self.routing.worker if suffix is None else names.worker_id(suffix)
        _close(self.connection)
        if suffix is None:
            self.routing.let_go(self.connection.alias)
        if self.routing.may_drop:
            schema = self.routing.schema(self.connection.alias, worker)
            with self._own_connection() as connection:
                schemas.drop(connection, names.seed_schema(schema))
                schemas.drop(connection, schema)
        if old_database_name is not None:
            self.connection.settings_dict["NAME"] = old_database_name

    @contextmanager
    def _as_worker(self, worker: str) -> Iterator[None]:
        """Route this alias to another worker's schema for a while."""
        here = self.routing.worker
        settings = dict(self.connection.settings_dict)
        self.routing.worker = worker
        self.connection.settings_dict.update(self.routing.settings(self.connection.alias, worker))
        try:
            yield
        finally:
            _close(self.connection)
            self.routing.worker = here
            self.connection.settings_dict.update(settings)

    def _schema(self) -> str:
        return self.routing.schema(self.connection.alias, self.routing.worker)

    def _own_connection(self) -> Connection:
        return connect(self.url, application=f"itkit setup {self.routing.run}")


def _schema_creation(
    connection: BaseDatabaseWrapper, routing: Routing, url: str
) -> BaseDatabaseCreation:
    base = type(connection.creation)
    kind = type("SchemaCreation", (_SchemaCreation, base), {"routing": routing, "url": url})
    return cast("BaseDatabaseCreation", kind(connection))


def _close(connection: BaseDatabaseWrapper) -> None:
    """Close a connection and its pool: an open pool would go on with the old settings."""
    connection.close()
    if connection.alias in getattr(connection, "_connection_pools", ()):
        connection.close_pool()  # type: ignore[attr-defined]  # Postgres' only
