"""Which faults a statement, or the end of a transaction, can suffer, and how."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final, NoReturn

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from itkit.core import sqltext
from itkit.core.wrapping import wrapped
from itkit.sweep.gate import SIMULATED, Gate, Point
from itkit.timeline import callsite, core, sql, transactions

_POSTGRES: Final = "postgresql"
_GONE: Final = f"server closed the connection unexpectedly ({SIMULATED})"
_STATES: Final = {"DeadlockDetected": "40P01", "SerializationFailure": "40001"}
"""Errors that the server itself raises, as it is asked to, by their SQLSTATE."""
_RAISE: Final = "DO $$BEGIN RAISE EXCEPTION '{}' USING ERRCODE = '{}'; END$$"
_REFUSING: Final = frozenset({"REPEATABLE_READ", "SERIALIZABLE"})
"""Isolation levels in which the server refuses transactions that meet others."""


class _DatabasePoint(Point):
    """A statement or the end of a transaction, on one of Django's connections."""

    def __init__(self, name: str, caller: core.Caller, connection: Any) -> None:
        super().__init__(name, caller)
        self.connection = connection

    def fail(self, kind: str) -> NoReturn:
        """Raise the error of this name; the transaction is over, on the server as well."""
        with self.connection.wrap_database_errors:
            self.fail_in_driver(kind)
        raise AssertionError(kind)

    def fail_in_driver(self, kind: str) -> None:
        """Raise the driver's error of this name, which Django turns into its own."""
        if kind in _STATES:
            with self.connection.connection.cursor() as cursor:
                cursor.execute(_RAISE.format(SIMULATED, _STATES[kind]))
        self.cut()
        raise self.connection.Database.OperationalError(_GONE)

    def lose(self) -> NoReturn:
        """Close the connection, and raise the error that the driver raises then."""
        self.fail("OperationalError")

    def cut(self) -> None:
        """Make the server roll back and forget the session, and close the connection.

        A server notices only after a while that a client has gone. So it is asked to roll back, and
        to release the locks of the session, before the connection closes.
        """
        cut(self.connection)


class StatementPoint(_DatabasePoint):
    """A statement that is about to be sent."""

    def __init__(self, text: str, caller: core.Caller, connection: Any) -> None:
        super().__init__(sql.named(text, connection.alias), caller, connection)
        found = sqltext.read(text)
        locks = found.verb == "SELECT" and " FOR " in text and "UPDATE" in text
        is_open = connection.in_atomic_block or not connection.autocommit
        self.is_quiet = not (found.writes or locks or found.verb in sqltext.DEFINING)
        self.lasts = not is_open and not self.is_quiet and not locks
        self.errors = ("OperationalError",)
        if connection.vendor == _POSTGRES:
            self._add_errors_of_postgres()

    def _add_errors_of_postgres(self) -> None:
        from django.db.backends.postgresql.psycopg_any import IsolationLevel

        level = getattr(self.connection, "isolation_level", None)
        can_be_refused = level is not None and IsolationLevel(level).name in _REFUSING
        if not self.is_quiet:
            self.errors += ("DeadlockDetected",)
            self.errors += ("SerializationFailure",) * can_be_refused
        self.more_errors = tuple(kind for kind in _STATES if kind not in self.errors)


class CommitPoint(_DatabasePoint):
    """The end of a transaction."""

    errors = ("OperationalError",)
    more_errors = ("IntegrityError", "SerializationFailure")

    def fail_in_driver(self, kind: str) -> None:
        """Raise the driver's error of this name; the server has rolled back."""
        if kind == "IntegrityError":
            self.connection.connection.rollback()
            raise self.connection.Database.IntegrityError(f"a deferred constraint ({SIMULATED})")
        super().fail_in_driver(kind)


@contextmanager
def led(gate: Gate, seen: set[Any]) -> Iterator[None]:
    """Lead the statements of all connections of Django's through a gate, within a block.

    It wraps methods of Django's classes, for the reason that ``itkit.timeline.sql`` gives. Checked
    with Django 5.2 and 6.1.

    Args:
        gate: the gate that lets them pass.
        seen: a set, to which each connection is added that sends a statement.
    """

    def sending(execute: Callable[..., Any]) -> Callable[..., Any]:
        def _execute_with_wrappers(
            cursor: Any,
            query: Any,
            params: Any,
            many: bool,  # noqa: FBT001 - as Django calls it
            executor: Callable[..., Any],
        ) -> Any:
            if not core.own_timeline().test:
                return execute(cursor, query, params, many, executor)
            seen.add(cursor.db)
            text = sql.text_of(query, cursor.db)
            point = StatementPoint(text, _caller(), cursor.db)

            # The innermost function, which calls the driver: the project's execute_wrappers, and
            # the record on the timeline, see the error as they would see a real one.
            def send(*args: Any) -> Any:
                with gate.passing(point):
                    return executor(*args)

            return execute(cursor, query, params, many, send)

        return _execute_with_wrappers

    def ending(commit: Callable[..., Any]) -> Callable[..., Any]:
        def _commit(connection: Any) -> Any:
            if connection.connection is None or not core.own_timeline().test:
                return commit(connection)
            seen.add(connection)
            name = sql.with_alias("COMMIT", connection.alias)
            with gate.passing(CommitPoint(name, _caller(), connection)):
                return commit(connection)

        return _commit

    with ExitStack() as releases:
        releases.enter_context(wrapped(CursorWrapper, "_execute_with_wrappers", sending))
        releases.enter_context(wrapped(BaseDatabaseWrapper, "_commit", ending))
        yield


def cut(connection: Any) -> None:
    """Make the server forget the session of one of Django's connections, and close it."""
    driver = connection.connection
    if driver is None or getattr(driver, "closed", False) or connection.vendor == "sqlite":
        return
    with suppress(Exception):  # whatever state the session is in
        driver.rollback()
        if connection.vendor == _POSTGRES:
            with driver.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock_all()")
    with suppress(Exception):
        driver.close()


def revive(connection: Any) -> None:
    """Let one of Django's connections connect anew with its next statement, as a new process would.

    Unlike Django's own ``close()``, any thread may call this, as the thread of the connection has
    died with the act.
    """
    connection.run_on_commit = []
    connection.savepoint_ids = []
    connection.atomic_blocks = []
    connection.in_atomic_block = connection.needs_rollback = False
    connection.closed_in_transaction = connection.errors_occurred = False
    transactions.forget(connection)
    cut(connection)
    if connection.connection is not None and connection.vendor != "sqlite":
        with suppress(Exception):
            connection._close()  # gives it back to a pool
        connection.connection = None


def is_broken(connection: Any) -> bool:
    """Return whether the driver's connection is closed although Django has not noticed."""
    return bool(getattr(connection.connection, "closed", False))


def _caller() -> callsite.Where:
    return callsite.caller(sys._getframe(2))
