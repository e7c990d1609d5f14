"""Watches migrations: one that writes outside of the tests' schema stops the run.

All workers and runs would share what a migration writes into ``public`` or another schema, and
would begin with it. In a developer's own database the migration might change foreign data. So the
effects of each migration are checked before it is committed, and a migration that has written
outside is rolled back.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from itkit.core import names
from itkit.core.text import listed
from itkit.exceptions import IsolationError
from itkit.postgres.migrations import extensions
from itkit.postgres.server import driver, outside
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.outside import Picture
from itkit.postgres.server.server import value

_RECORD: Final = 'INSERT INTO "django_migrations"'
AFTER: Final = "what comes after the migrations (such as a receiver of post_migrate)"
"""What runs after the last migration, as the subject of a sentence."""

_READS: Final = ("SELECT", "SHOW", "EXPLAIN", "DECLARE", "FETCH")


@contextmanager
def watched(
    connection: BaseDatabaseWrapper, own: Callable[[], AbstractContextManager[Connection]]
) -> Iterator[None]:
    """Stop migrations in a block that write outside of itkit's schemas.

    Args:
        connection: Django's connection to a place of itkit's, by which the migrations run.
        own: returns a connection by the project's own role, which creates extensions.

    Raises:
        IsolationError: a migration has done so. The message has the migration's name, and what it
            has written where. It is rolled back as far as possible.
    """
    with connection.execute_wrapper(_Providing(connection, own)):
        connection.ensure_connection()  # receivers of connection_created run statements as well
    watch = _Watch(connection, own)
    with watch.names.followed(), connection.execute_wrapper(watch.execute):
        yield
        connection.ensure_connection()
        watch.names.running = AFTER  # also where nothing was migrated
        watch.look_at_all()


class _Providing:
    """Creates the extensions that statements create, where their text did not show it before.

    Args:
        connection: Django's connection, which runs the statements.
        own: returns a connection by the project's own role, which creates the extensions.
    """

    def __init__(
        self, connection: BaseDatabaseWrapper, own: Callable[[], AbstractContextManager[Connection]]
    ) -> None:
        self._connection = connection
        self._own = own

    def __call__(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - the signature of Django's wrappers
        context: Any,
    ) -> Any:
        """Create the extensions of a statement, and run it."""
        if isinstance(sql, str) and self.provide(sql):
            sql = extensions.rewritten(Connection(self._connection.connection), sql)
        return execute(sql, params, many, context)

    def provide(self, statements: str) -> bool:
        """Create the extensions that statements create; return whether there were any."""
        if not extensions.are_named(statements):
            return False
        with self._own() as connection:
            return extensions.provide(connection, statements)


class _Watch:
    def __init__(
        self, connection: BaseDatabaseWrapper, own: Callable[[], AbstractContextManager[Connection]]
    ) -> None:
        self._connection = connection
        self._provide = _Providing(connection, own).provide
        self._path = value(self._raw, "SHOW search_path")
        self._before: Picture = outside.picture(self._raw)
        self._counted = outside.counters(self._raw)
        self._extensions = extensions.installed(self._raw)
        self.names = MigrationNames()

    @property
    def _raw(self) -> Connection:
        return Connection(self._connection.connection)

    def execute(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - the signature of Django's wrappers
        context: Any,
    ) -> Any:
        """Run a statement of a migration, and check what it has written before the commit."""
        if isinstance(sql, str):
            if self._provide(sql):
                self._extensions = extensions.installed(self._raw)
            sql = extensions.rewritten(self._raw, sql)
        statement = str(sql).lstrip()
        if statement.startswith(_RECORD):
            self.look()  # the migration is complete, and its transaction still open
        elif not self._connection.in_atomic_block and not statement.upper().startswith(_READS):
            return self._execute_alone(execute, sql, params, many, context)
        return execute(sql, params, many, context)

    def _execute_alone(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        """Run a statement that would commit itself within a transaction, to be able to undo it."""
        try:
            with transaction.atomic(using=self._connection.alias):
                result = execute(*arguments)
                self.look()
        except Exception as error:
            if not isinstance(error.__cause__, driver.errors.ActiveSqlTransaction):
                raise
        else:
            return result
        result = execute(*arguments)  # a statement that Postgres runs only outside of transactions
        self.look()
        return result

    def look(self) -> None:
        """Check that nothing was written outside so far.

        Raises:
            IsolationError: something was written outside.
        """
        self._require_nothing(outside.written_in_transaction(self._raw))

    def look_at_all(self) -> None:
        """Check that nothing was written outside, committed rows included.

        Raises:
            IsolationError: something was written outside.
        """
        outside.flush_counters(self._raw)
        self._require_nothing(outside.written(self._counted, outside.counters(self._raw)))

    def _require_nothing(self, rows: list[str]) -> None:
        self._require_extensions()
        path = value(self._raw, "SHOW search_path")
        found = [*outside.catalog_changes(self._raw, self._before), *rows]
        if path != self._path:
            found.append(f"the search_path was left as {path!r}, and was {self._path!r}")
        if found:
            running = self.names.running
            who = f"{running[0].upper()}{running[1:]}"
            raise IsolationError(
                f"{who} has written outside of the tests' schema, in the database"
                f" {self._raw.info.dbname!r}:\n{listed(found, most=outside.SHOWN)}\n"
                f"{outside.REMEDY} Nothing of the migrations was kept."
            )

    def _require_extensions(self) -> None:
        """Check that the extensions in ``itkit_ext``, which all runs use, are unchanged.

        Extensions in other schemas count as outside, and are checked there.

        Raises:
            IsolationError: an extension has changed, or one was created in the schema of the
                migrations.
        """
        now = extensions.installed(self._raw)
        running = f"{self.names.running[0].upper()}{self.names.running[1:]}"
        for name, before in self._extensions.items():
            if before.schema != names.EXTENSION_SCHEMA:
                continue
            if name not in now or now[name].oid != before.oid:
                done = "dropped"
            elif now[name].version != before.version:
                done = f"updated to {now[name].version}"
            elif now[name].schema != before.schema:
                done = f"moved to the schema {now[name].schema!r}"
            else:
                continue
            raise IsolationError(
                f"{running} has {done} the extension {name!r}, which belongs to the whole database"
                f" {self._raw.info.dbname!r}, and to all runs that are in there.\n"
                f"{outside.REMEDY} Nothing of the migrations was kept."
            )
        for name in now.keys() - self._extensions.keys():
            if now[name].leads:
                raise IsolationError(
                    f"{running} has created the extension {name!r} in a way that itkit did not see"
                    " before, so that it is in the schema of one worker only. Name it in the"
                    f' settings: ITKIT = {{"POSTGRES": {{"EXTENSIONS": ["{name}"]}}}}'
                )


class MigrationNames:
    """Knows which migration is running.

    Attributes:
        running: the name of the migration that runs, in words.
    """

    def __init__(self) -> None:
        self.running = "what comes before the migrations"

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow the migrations of a block.

        Django reports the applied migration only to the command ``migrate``, which prints it. So
        the method of Django's executor is wrapped. Checked with Django 5.2, 6.0 and 6.1.
        """
        original = MigrationExecutor.apply_migration

        def apply_migration(
            executor: MigrationExecutor, state: Any, migration: Any, **options: Any
        ) -> Any:
            self.running = f"the migration {migration.app_label}.{migration.name}"
            state = original(executor, state, migration, **options)
            self.running = AFTER
            return state

        MigrationExecutor.apply_migration = apply_migration  # type: ignore[method-assign, assignment]  # see above
        try:
            yield
        finally:
            MigrationExecutor.apply_migration = original  # type: ignore[method-assign]  # see above
