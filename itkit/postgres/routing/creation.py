"""Creates, clones and destroys test databases, as runners request it from Django.

Both Django's runner and pytest-django use ``connection.creation``, so neither needs to be changed.
The test databases are places of itkit's.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, cast

import django
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.creation import BaseDatabaseCreation

from itkit import conf
from itkit.core import names
from itkit.exceptions import IsolationError
from itkit.postgres.migrations import progress
from itkit.postgres.migrations.explain import (
    denial,
    failures_named,
    project_role_notice,
    role_too_weak,
)
from itkit.postgres.migrations.watch import MigrationNames
from itkit.postgres.reset import initial_rows
from itkit.postgres.routing import routed
from itkit.postgres.routing.routing import Routing
from itkit.postgres.server import driver
from itkit.postgres.server.driver import Connection
from itkit.postgres.snapshot import Snapshots
from itkit.postgres.template import recording
from itkit.postgres.template.template import Migrated, Template

_CREATING: Final = "Creating test database"
_SERIALIZES: Final = django.VERSION < (6, 1)
"""Whether ``create_test_db`` serializes the migrated rows by default."""


def schema_creation(
    connection: BaseDatabaseWrapper, routing: Routing, url: str
) -> BaseDatabaseCreation:
    """Return the replacement of a connection's ``creation``.

    Its class is a mixin over the connection's own class, so that additions of other backends
    (PostGIS, third-party ones) stay.
    """
    base = type(vars(connection)["creation"])
    kind = type("SchemaCreation", (_SchemaCreation, base), {"routing": routing, "url": url})
    return cast("BaseDatabaseCreation", kind(connection))


class _SchemaCreation(BaseDatabaseCreation):
    routing: Routing
    url: str

    def _get_test_db_name(self) -> str:
        name: str = self.connection.settings_dict["NAME"]
        return name

    def log(self, msg: str) -> None:
        """Print a line; replace Django's lines about test databases, as none is created."""
        if msg.startswith(_CREATING):
            msg = (
                f"itkit: migrating alias {self.connection.alias!r}, as no earlier run has left"
                " what its migrations make now ..."
            )
        super().log(msg)

    def test_db_signature(self) -> tuple[Any, ...]:
        # Two aliases with two databases must not become one because both are routed to one server.
        return self.routing.original_signature(self.connection.alias)

    def set_as_test_mirror(self, primary_settings_dict: dict[str, Any]) -> None:
        """Do nothing, as the alias was routed to the primary's place, with options of its own."""

    def create_test_db(
        self,
        verbosity: int = 1,
        autoclobber: bool = False,  # noqa: FBT001, FBT002 - Django's signature
        serialize: bool | None = None,  # noqa: FBT001 - Django's signature
        keepdb: bool = False,  # noqa: FBT001, FBT002 - Django's signature
    ) -> str:
        del autoclobber, keepdb  # a schema belongs to its run, and is never stale
        routed.close(self.connection)
        with self.routing.set_up_connection(self.connection.alias) as own:
            lacking = self._provide(own, self.routing.worker, verbosity)
            self.routing.lacking[self.connection.alias] = lacking
            if lacking:
                self.log(_no_clone(self.connection.alias, lacking))
                self._migrate_alone(own, self.routing.worker, verbosity)
            self._log_in(own)
            if serialize or (serialize is None and _SERIALIZES):
                contents = self.serialize_db_to_string()
                self.connection._test_serialized_contents = contents  # type: ignore[attr-defined]
            self.connection.ensure_connection()
            self.routing.hold(self.connection.alias, own)
        return self._get_test_db_name()

    def _clone_test_db(self, suffix: str, verbosity: int, keepdb: bool = False) -> None:  # noqa: FBT001, FBT002 - Django's signature
        del verbosity, keepdb
        worker = names.worker_id(suffix)
        if self.routing.lacking[self.connection.alias]:
            with self._own_connection() as own:
                self._migrate_alone(own, worker, verbosity=0)
        else:
            self.routing.in_background(partial(self._provide_clone, worker))

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
        routed.close(self.connection)
        if suffix is None:
            self.routing.let_go(self.connection.alias)
        if self.routing.may_drop:
            with self.routing.set_up_connection(self.connection.alias) as connection:
                self._give_back(connection, worker)
        if old_database_name is not None:
            self.connection.settings_dict["NAME"] = old_database_name

    def _provide_clone(self, worker: str) -> None:
        with self._own_connection() as own:
            self._provide(own, worker, verbosity=0)

    def _provide(self, own: Connection, worker: str, verbosity: int) -> tuple[str, ...]:
        """Give a worker a clone of the template; return the objects that a clone would lack."""
        while True:
            template = self._template(own)
            lacking = template.provide(
                self._place(worker),
                partial(self._make_template, worker=worker, verbosity=verbosity),
                partial(self._save, self.routing.snapshots, own)
                if self.routing.snapshots is not None
                else None,
            )
            self.routing.isolation.settle(template, is_found=lacking is not None)
            if lacking is not None:
                return lacking

    def _save(self, snapshots: Snapshots, connection: Connection) -> None:
        """Copy the server's cluster for the next run, before any test has written to it."""
        reason: object = "it has unlogged tables, whose rows no copy of a running server has"
        try:
            if self._template(connection).is_logged():
                templates = self.routing.isolation.templates(connection)
                reads = [template.reads().text for template in templates]
                snapshots.take(connection, json.dumps(sorted(reads)))
                return
        except (OSError, driver.Error) as error:
            reason = error
        self.log(f"itkit: the migrated cluster is not saved, so each run migrates: {reason}")

    def _template(self, connection: Connection) -> Template:
        return self.routing.isolation.template_of(
            connection,
            self.connection.alias,
            self.routing.run,
            migrate=self.routing.migrate,
        )

    def _log_in(self, own: Connection) -> None:
        """Use the role of the worker's place from now on, or print why it has none."""
        if not self.routing.secret:
            return
        places = self.routing.isolation.places(own)
        has_role = places.has_role(self._place(self.routing.worker))
        state = None if has_role else self._template(own).state()
        self.routing.note_role(self.connection.alias, has_role=has_role)
        if state is not None and state.needs:
            kept_by = self.routing.isolation.without_roles
            self.log(project_role_notice(self.connection.alias, state.needs, kept_by))

    def _make_template(self, place: str, worker: str, verbosity: int) -> Migrated:
        """Migrate, and return the known facts about the result."""
        with recording.recording() as recorder:
            needs = self._migrate_by_any_role(place, worker, verbosity)
        self.routing.isolation.after_migrating(self.url, place)
        for read in recorder.unrepeatable_reads():
            self.routing.note_unrepeatable(*read)
        return Migrated(needs, recorder.values)

    def _migrate_by_any_role(self, place: str, worker: str, verbosity: int) -> str:
        """Migrate; return why the worker's role could not do it, or an empty text."""
        needs = self._migrate_by_role(place, worker, verbosity) if self.routing.secret else ""
        if needs:
            with self._own_connection() as connection:
                places = self.routing.isolation.places(connection, self.connection.alias)
                places.drop(place)
                places.create(place, self.routing.run)
        if needs or not self.routing.secret:
            self._migrate(place, verbosity)
        return needs

    def _migrate_by_role(self, place: str, worker: str, verbosity: int) -> str:
        """Migrate by the role of a worker; return the migration that needs more rights, if any.

        Raises:
            IsolationError: a migration needs more rights, and the settings require the worker's
                role.
        """
        role, migrations = self._place(worker), MigrationNames()
        with (
            self._own_connection() as connection,
            self.routing.isolation.places(connection).lent(place, role) as left,
        ):
            needs = ""
            try:
                with migrations.followed():
                    self._migrate(place, verbosity, role=role)
            except Exception as error:
                needs = denial(error)
                if not needs:
                    raise
                needs = f"{migrations.running} needs more ({needs})"
        needs = needs or "".join(left)
        if needs and conf.get().postgres.role == "worker":
            raise IsolationError(role_too_weak(needs))
        return needs

    def _migrate(self, place: str, verbosity: int, *, role: str | None = None) -> None:
        """Let Django migrate in an existing, empty place.

        Args:
            place: the name of the place.
            verbosity: Django's verbosity.
            role: the role by which to log in; by default that of the project.
        """
        with self._own_connection() as connection:
            self.routing.isolation.prepare(connection, self.connection.alias)
        alias, migrations, begin = self.connection.alias, MigrationNames(), time.monotonic()
        with (
            self._routed_to(place, role=role),
            migrations.followed(),
            progress.shown(alias, migrations, self.routing.stderr),
            failures_named(migrations),
            self.routing.isolation.watched(self.connection, self._own_connection),
        ):
            # Django 6.1 warns about this argument.
            unserialized = {"serialize": False} if _SERIALIZES else {}
            super().create_test_db(verbosity=verbosity, autoclobber=True, **unserialized)
        self.routing.migrated[alias] = time.monotonic() - begin

    def _create_test_db(self, *_: Any, **__: Any) -> str:
        return self._get_test_db_name()  # Django's create_test_db calls it before it migrates

    def _migrate_alone(self, own: Connection, worker: str, verbosity: int) -> None:
        """Migrate in a worker's own schema, as a clone of the template would lack objects."""
        place = self._place(worker)
        state = self._template(own).state()
        has_role = bool(self.routing.secret and state is not None and not state.needs)
        places = self.routing.isolation.places(own)
        places.create(place, self.routing.run, has_role=has_role)
        self._migrate(place, verbosity, role=place if has_role else None)
        places.create(names.initial_rows_schema(place), self.routing.run)
        initial_rows.keep(own, place, names.initial_rows_schema(place))

    def _give_back(self, connection: Connection, worker: str) -> None:
        """Keep a worker's place for the next run, or drop it."""
        place = self._place(worker)
        is_kept = self._keep(connection, worker, place)
        self.routing.close_reset(self.connection.alias, worker)
        if not is_kept:
            places = self.routing.isolation.places(connection)
            places.drop(names.initial_rows_schema(place))
            places.drop(place)

    def _keep(self, connection: Connection, worker: str, place: str) -> bool:
        limit = conf.get().postgres.keep
        if not limit:
            return False
        self.routing.isolation.places(connection).end_sessions(self.routing.run, worker)
        with suppress(IsolationError, driver.Error):  # a place that cannot be reset is dropped
            self.routing.restore(self.connection.alias, worker, connection)
            return self._template(connection).keep(place, limit)
        return False

    @contextmanager
    def _routed_to(self, place: str, *, role: str | None) -> Iterator[None]:
        """Route this alias to another place for a while."""
        settings, here = self.connection.settings_dict, dict(self.connection.settings_dict)
        routed.close(self.connection)
        settings.update(self.routing.connection_settings(self.connection.alias, place, role=role))
        try:
            yield
        finally:
            routed.close(self.connection)
            settings.update(here)

    def _place(self, worker: str) -> str:
        return self.routing.place(self.connection.alias, worker)

    def _own_connection(self) -> Connection:
        return self.routing.own_connection(self.connection.alias)


def _no_clone(alias: str, lacking: tuple[str, ...]) -> str:
    shown = "\n".join(f"  {difference}" for difference in lacking)
    return (
        f"itkit: each worker migrates anew for alias {alias!r}, as a clone of the migrated schema"
        f" would differ from it:\n{shown}"
    )
