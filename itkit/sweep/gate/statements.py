"""Which faults a statement, or the end of a transaction, can suffer, and how."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Any, Final, NoReturn

from django.apps import apps
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from itkit import environment
from itkit.core import sqltext
from itkit.core.wrapping import wrapped
from itkit.sweep.gate.gate import EVERYTHING, ROW, SIMULATED, Passage, Point, Touched
from itkit.timeline import callsite, core, sql, transactions

_POSTGRES: Final = "postgresql"
_GONE: Final = f"server closed the connection unexpectedly ({SIMULATED})"
_STATES: Final = {"DeadlockDetected": "40P01", "SerializationFailure": "40001"}
"""Errors that the server itself raises, as it is asked to, by their SQLSTATE."""
_RAISE: Final = "DO $$BEGIN RAISE EXCEPTION '{}' USING ERRCODE = '{}'; END$$"
_ADVISORY: Final = "advisory"
"""Is in the names of the functions that take locks of the application's own."""
_ONE_ROW: Final = re.compile(
    r' WHERE \(?"\w+"\."(?P<column>\w+)" = %s\)?(?: LIMIT \d+)?(?: FOR (?:NO KEY )?UPDATE[ A-Z]*)?$'
)
"""The end of a statement about the row with one key, which is its last parameter."""
_UNKNOWN: Final[tuple[str, frozenset[tuple[str, str]], bool]] = ("", frozenset(), True)
"""What is known of a table that no model has."""
_OF_TRANSACTIONS: Final = frozenset({"SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "COMMIT"})
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
    """A statement that is about to be sent.

    Attributes:
        is_open: whether it is within a transaction, so that nobody sees yet what it changes.
        published: the names that others see changed, or that are locked, when it is committed.
        is_strict: whether the transaction sees from now on only what was there at its begin.
    """

    def __init__(self, text: str, caller: core.Caller, connection: Any, params: Any = None) -> None:
        super().__init__(sql.named(text, connection.alias), caller, connection)
        found = sqltext.read(text)
        locks = found.verb == "SELECT" and " FOR " in text and "UPDATE" in text
        is_open = connection.in_atomic_block or not connection.autocommit
        self.is_quiet = not (found.writes or locks or found.verb in sqltext.DEFINING)
        self.lasts = not is_open and not self.is_quiet and not locks
        self.is_open = is_open
        self.is_strict = "ISOLATION LEVEL" in text.upper() or refuses(connection)
        row = _row_of(found, text, params)
        self.touched, self.published = _touched(found, text, connection, row, locks=locks)
        if not is_open:
            self.touched |= self.published
        elif connection.vendor == _POSTGRES:
            # It checks the foreign keys that Django declares at the COMMIT, and locks rows then.
            self.published |= Touched(shares=self.touched.shares)
            self.touched = self.touched._replace(shares=frozenset())
        self.errors = ("OperationalError",)
        if connection.vendor == _POSTGRES:
            self._add_errors_of_postgres()

    def _add_errors_of_postgres(self) -> None:
        can_be_refused = refuses(self.connection)
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


def _touched(
    found: sqltext.ParsedStatement, text: str, connection: Any, row: str, *, locks: bool
) -> tuple[Touched, Touched]:
    """Return the tables of a statement, and of these what others see when it is committed.

    It may have to do with everything where it defines something, or names no table: a function may
    do all.
    """
    now, later = Touched(changes=frozenset({EVERYTHING})), Touched()
    tables = frozenset(f"{named(connection, table)}{row}" for table in found.tables)
    if found.verb in _OF_TRANSACTIONS:
        now = Touched()
    elif found.verb in sqltext.DEFINING or not found.tables:
        if _ADVISORY in text:
            now = Touched(changes=frozenset({_ADVISORY}))
        elif found.verb == "SELECT" and "(" not in text:
            now = Touched()
    elif locks:
        now = Touched(locks=tables)
    elif not found.writes:
        now = Touched(reads=tables)
    else:
        written = frozenset({f"{named(connection, found.target)}{row}"} if found.target else tables)
        _, referred, is_unique = _models().get(found.target, _UNKNOWN)
        is_new = found.verb != "UPDATE"
        shared = frozenset(
            named(connection, table)
            for column, table in referred
            if is_new or f'"{column}" = ' in text.partition(" WHERE ")[0]
        )
        if found.verb == "INSERT" and not is_unique:
            now, later = Touched(tables - written, shared), Touched(adds=written)
        else:
            now, later = Touched(tables - written, shared, written), Touched(changes=written)
    return now, later


def _row_of(found: sqltext.ParsedStatement, text: str, params: Any) -> str:
    """Return which row a statement is about, where it names one by its key; else nothing."""
    match = _ONE_ROW.search(text)
    if match is None or len(found.tables) != 1 or not isinstance(params, list | tuple):
        return ""
    key, _, _ = _models().get(found.tables[0], _UNKNOWN)
    is_changed = found.verb == "UPDATE" and f'"{key}" = %s' in text[: match.start()]
    return f"{ROW}{params[-1]}" if match["column"] == key and params and not is_changed else ""


def named(connection: Any, table: str) -> str:
    """Return the name of a table among all that may be touched."""
    return f"table {connection.alias}.{table}"


@cache
def _models() -> dict[str, tuple[str, frozenset[tuple[str, str]], bool]]:
    """Return the key of each table, those that it refers to, and if a new row may exclude another.

    Postgres locks the rows that a new one refers to, and has one of two wait that are to be unique.
    """
    found = {}
    for model in apps.get_models(include_auto_created=True):
        fields = [field for field in model._meta.concrete_fields if not field.primary_key]
        key = model._meta.pk
        is_unique = bool(
            model._meta.unique_together
            or any(not isinstance(one, models.CheckConstraint) for one in model._meta.constraints)
            or any(field.unique for field in fields)
            or not isinstance(key, models.AutoField | models.UUIDField)
        )
        referred = frozenset(
            (str(field.column), field.related_model._meta.db_table)
            for field in fields
            if field.is_relation and isinstance(field.related_model, type)
        )
        found[model._meta.db_table] = (str(key.column), referred, is_unique)
    return found


def refuses(connection: Any) -> bool:
    """Return whether the server refuses transactions of a connection that meet others."""
    if connection.vendor != _POSTGRES:
        return False
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    level = getattr(connection, "isolation_level", None)
    return level is not None and IsolationLevel(level).name in _REFUSING


def session_of(connection: Any) -> int | None:
    """Return the number of the session that a connection of Django's has; None where it has none.

    The number is that of the process of Postgres, as ``pg_blocking_pids()`` takes it.
    """
    driver = connection.connection
    if driver is None or connection.vendor != _POSTGRES or getattr(driver, "closed", False):
        return None
    info: Any = driver.info
    return int(info.backend_pid)


@contextmanager
def led(gate: Passage, seen: set[Any]) -> Iterator[None]:
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
            point = StatementPoint(text, _caller(), cursor.db, None if many else params)

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
        found = environment.current()
        if found is not None and found.keep_session(connection):
            return  # the session goes on as a new one, which is quicker
        if connection.vendor == _POSTGRES:
            with driver.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock_all()")
            driver.rollback()  # the statement has begun a transaction, unless there is autocommit
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
